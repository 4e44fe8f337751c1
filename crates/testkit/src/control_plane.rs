//! etcd and kube-apiserver, and kube-controller-manager when asked.

use crate::{
    Error,
    https::Client,
    pki::Authority,
    process::{Nursery, free_port},
    tools,
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// How long a component may take to get ready; a start on a busy machine takes many times the usual 3 s.
const PATIENCE: Duration = Duration::from_mins(2);

/// What a control plane is started with.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    users: Vec<(String, String, Vec<String>)>,
    api_server_flags: Vec<String>,
}

/// A running control plane. It ends when this is dropped.
pub struct ControlPlane {
    nursery: Nursery,
    authority: Authority,
    client: Client,
    url: String,
    ca: String,
}

/// How a kubeconfig's user proves who it is.
#[derive(Clone, Debug)]
pub enum KubeconfigUser<'a> {
    /// A bearer token.
    Token(&'a str),
    /// A client certificate and its key, as files.
    Certificate(&'a Path, &'a Path),
}

/// The administrator's bearer token.
const ADMIN: &str = "testkit-admin";

impl Builder {
    /// Lets the bearer `token` stand for a user in groups. It may do what its RBAC says.
    pub fn user(mut self, token: &str, name: &str, groups: &[&str]) -> Self {
        self.users.push((
            token.into(),
            name.into(),
            groups.iter().map(|&group| group.into()).collect(),
        ));
        self
    }

    /// Adds a flag of kube-apiserver.
    pub fn api_server_flag(mut self, flag: impl Into<String>) -> Self {
        self.api_server_flags.push(flag.into());
        self
    }

    /// Starts etcd and kube-apiserver and waits for `/readyz`.
    ///
    /// # Errors
    /// [`Error::Missing`] when a binary is not there; otherwise why it does not come up, with the end of its log.
    pub fn start(&self) -> Result<ControlPlane, Error> {
        let (etcd, api_server) = (tools::find("etcd")?, tools::find("kube-apiserver")?);
        let mut left = 3;
        loop {
            left -= 1;
            match self.attempt(&etcd, &api_server) {
                // Another process took a port between our look and the component's bind.
                Err(Error::Ended { tail, .. }) if left > 0 && tail.contains("address already in use") => {}
                result => return result,
            }
        }
    }

    fn attempt(&self, etcd: &Path, api_server: &Path) -> Result<ControlPlane, Error> {
        let mut nursery = Nursery::new()?;
        let etcd_url = start_etcd(&mut nursery, etcd)?;

        let authority = Authority::new()?;
        let (ca, serving) = (authority.certificate(), authority.serving()?);
        let service_accounts = authority.serving()?;
        let mut tokens = vec![format!("{ADMIN},admin,admin,\"system:masters\"")];
        let line = |(token, name, groups): &(String, String, Vec<String>)| {
            format!("{token},{name},{name},\"{}\"", groups.join(","))
        };
        tokens.extend(self.users.iter().map(line));
        let ca_file = nursery.write("ca.crt", &ca)?;
        let certificate = nursery.write("serving.crt", serving.certificate)?;
        let key = nursery.write("serving.key", serving.key)?;
        let signing_key = nursery.write("sa.key", service_accounts.key)?;
        let verifying_key = nursery.write("sa.crt", service_accounts.certificate)?;
        let tokens = nursery.write("tokens.csv", tokens.join("\n"))?;

        let port = free_port()?;
        let mut flags = vec![
            format!("--etcd-servers={etcd_url}"),
            format!("--secure-port={port}"),
            format!("--cert-dir={}", nursery.folder().display()),
            format!("--tls-cert-file={}", certificate.display()),
            format!("--tls-private-key-file={}", key.display()),
            format!("--client-ca-file={}", ca_file.display()),
            format!("--token-auth-file={}", tokens.display()),
            format!("--service-account-signing-key-file={}", signing_key.display()),
            format!("--service-account-key-file={}", verifying_key.display()),
        ];
        flags.extend(
            [
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                "--endpoint-reconciler-type=none",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--authorization-mode=Node,RBAC",
                "--allow-privileged=true",
                "--kubelet-preferred-address-types=InternalIP",
            ]
            .map(str::to_owned),
        );
        flags.extend(self.api_server_flags.iter().cloned());
        nursery.spawn("kube-apiserver", api_server, &flags, &[])?;

        let client = Client::new(port, &ca, ADMIN)?;
        nursery.wait_for("kube-apiserver", PATIENCE, || {
            match client.send("GET", "/readyz", "", "") {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(format!("{} {}", answer.status, answer.body)),
                Err(error) => Err(error.to_string()),
            }
        })?;
        let url = format!("https://127.0.0.1:{port}");
        let control_plane = ControlPlane {
            nursery,
            authority,
            client,
            url,
            ca,
        };
        control_plane.write_kubeconfig("kubeconfig", &KubeconfigUser::Token(ADMIN))?;
        Ok(control_plane)
    }
}

fn start_etcd(nursery: &mut Nursery, etcd: &Path) -> Result<String, Error> {
    let url = format!("http://127.0.0.1:{}", free_port()?);
    let peers = format!("http://127.0.0.1:{}", free_port()?);
    let flags = [
        format!("--data-dir={}", nursery.folder().join("etcd").display()),
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
        // Nothing here outlives the test, so nothing is worth the wait for the disk.
        "--unsafe-no-fsync".to_owned(),
    ];
    nursery.spawn("etcd", etcd, flags, &[])?;
    Ok(url)
}

impl ControlPlane {
    /// A control plane with the administrator as its only user.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// `https://127.0.0.1:PORT`
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate of the authority that signed the serving certificate, and whose client certificates the
    /// server accepts; PEM.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// The authority itself, to sign client certificates with.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The administrator's bearer token.
    pub fn token(&self) -> &'static str {
        ADMIN
    }

    /// The administrator's kubeconfig file.
    pub fn kubeconfig(&self) -> PathBuf {
        self.nursery.folder().join("kubeconfig")
    }

    /// The folder that goes with the control plane; logs are `<component>.log` in it.
    pub fn folder(&self) -> &Path {
        self.nursery.folder()
    }

    /// A small blocking client with the administrator's rights.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The processes, for measurements.
    pub fn processes(&self) -> &Nursery {
        &self.nursery
    }

    pub(crate) fn nursery(&mut self) -> &mut Nursery {
        &mut self.nursery
    }

    /// Writes a kubeconfig for `user` to the file `name` in the folder and returns its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_kubeconfig(&self, name: &str, user: &KubeconfigUser<'_>) -> Result<PathBuf, Error> {
        let user = match user {
            KubeconfigUser::Token(token) => format!("    token: {token}\n"),
            KubeconfigUser::Certificate(certificate, key) => format!(
                "    client-certificate: {}\n    client-key: {}\n",
                certificate.display(),
                key.display()
            ),
        };
        let ca = self.folder().join("ca.crt");
        self.nursery.write(
            name,
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: testkit\n\
                 clusters:\n- name: testkit\n  cluster:\n    server: {}\n    certificate-authority: {}\n\
                 contexts:\n- name: testkit\n  context:\n    cluster: testkit\n    user: testkit\n\
                 users:\n- name: testkit\n  user:\n{user}",
                self.url,
                ca.display()
            ),
        )
    }

    /// Starts kube-controller-manager with the named `controllers` (`*` are its default ones) and waits for its
    /// `/healthz`.
    ///
    /// # Errors
    /// As [`Builder::start`].
    pub fn start_controller_manager(&mut self, controllers: &[&str]) -> Result<(), Error> {
        let program = tools::find("kube-controller-manager")?;
        let port = free_port()?;
        let folder = self.folder().to_owned();
        let flags = [
            format!("--kubeconfig={}", self.kubeconfig().display()),
            format!("--authentication-kubeconfig={}", self.kubeconfig().display()),
            format!("--authorization-kubeconfig={}", self.kubeconfig().display()),
            format!("--controllers={}", controllers.join(",")),
            format!("--root-ca-file={}", folder.join("ca.crt").display()),
            format!(
                "--service-account-private-key-file={}",
                folder.join("sa.key").display()
            ),
            format!("--tls-cert-file={}", folder.join("serving.crt").display()),
            format!("--tls-private-key-file={}", folder.join("serving.key").display()),
            format!("--secure-port={port}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--leader-elect=false".to_owned(),
        ];
        self.nursery
            .spawn("kube-controller-manager", &program, flags, &[])?;
        let client = Client::new(port, &self.ca, ADMIN)?;
        self.nursery.wait_for("kube-controller-manager", PATIENCE, || {
            match client.send("GET", "/healthz", "", "") {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(format!("{} {}", answer.status, answer.body)),
                Err(error) => Err(error.to_string()),
            }
        })
    }

    /// Kills the component `name` (`kube-controller-manager`, `kube-apiserver`, `etcd`).
    pub fn stop(&mut self, name: &str) {
        self.nursery.stop(name);
    }
}

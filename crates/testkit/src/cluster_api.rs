//! Cluster API's core manager against a running control plane.

use crate::{Authority, ControlPlane, Error, process::free_port, tools};
use std::{fs, path::Path, time::Duration};

/// The running core manager. It ends with the [`ControlPlane`] that it works on.
#[derive(Clone, Copy, Debug)]
pub struct ClusterApi {
    _started: (),
}

const NAME: &str = "cluster-api-core";

impl ClusterApi {
    /// Installs the core CRDs (v1beta2; no conversion webhook) and starts the manager.
    ///
    /// # Errors
    /// [`Error::Missing`] when the manager or its CRDs are not there; otherwise why it does not come up.
    pub fn start(control_plane: &mut ControlPlane) -> Result<Self, Error> {
        let (program, crds) = (tools::find(NAME)?, tools::find("cluster-api-crds")?);
        let mut names = Vec::new();
        for file in files(&crds)? {
            names.push(install(control_plane, &file)?);
        }
        for name in names {
            let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
            let client = control_plane.client().clone();
            control_plane
                .nursery()
                .wait_for("kube-apiserver", Duration::from_mins(1), || {
                    let crd = client
                        .send("GET", &path, "", "")
                        .map_err(|error| error.to_string())?;
                    let established = crd.body.contains(r#""type":"Established","status":"True""#);
                    if established {
                        Ok(())
                    } else {
                        Err(format!("{name} is not established"))
                    }
                })?;
        }
        Self::run(control_plane, &program)
    }

    fn run(control_plane: &mut ControlPlane, program: &Path) -> Result<Self, Error> {
        let serving = Authority::new()?.serving()?;
        let nursery = control_plane.nursery();
        nursery.write("webhook/tls.crt", serving.certificate)?;
        nursery.write("webhook/tls.key", serving.key)?;
        let webhook = nursery.folder().join("webhook");
        let health = format!("127.0.0.1:{}", free_port()?);
        let flags = [
            format!("--kubeconfig={}", control_plane.kubeconfig().display()),
            format!("--webhook-cert-dir={}", webhook.display()),
            format!("--webhook-port={}", free_port()?),
            format!("--health-addr={health}"),
            format!("--diagnostics-address=127.0.0.1:{}", free_port()?),
            "--insecure-diagnostics".to_owned(),
            "--leader-elect=false".to_owned(),
            "--skip-crd-migration-phases=StorageVersionMigration,CleanupManagedFields".to_owned(),
        ];
        let env = [
            ("POD_NAMESPACE", "default"),
            ("POD_NAME", NAME),
            ("POD_UID", NAME),
        ];
        let nursery = control_plane.nursery();
        nursery.spawn(NAME, program, flags, &env)?;
        nursery.wait_for(NAME, Duration::from_mins(2), || ready(&health))?;
        Ok(Self { _started: () })
    }
}

fn files(folder: &Path) -> Result<Vec<std::path::PathBuf>, Error> {
    let entries = fs::read_dir(folder).map_err(Error::io(format!("read {}", folder.display())))?;
    let mut files: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    Ok(files)
}

/// Applies one CRD file; its name is the file's, which is `<group>_<plural>.yaml` by convention.
fn install(control_plane: &ControlPlane, file: &Path) -> Result<String, Error> {
    let text = fs::read_to_string(file).map_err(Error::io(format!("read {}", file.display())))?;
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let (group, plural) = stem.split_once('_').unwrap_or(("", &stem));
    let name = format!("{plural}.{group}");
    let path = format!(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}?fieldManager=testkit&force=true"
    );
    control_plane
        .client()
        .expect("PATCH", &path, "application/apply-patch+yaml", &text)?;
    Ok(name)
}

fn ready(address: &str) -> Result<(), String> {
    use std::io::{Read, Write};
    let ask = || {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    match ask() {
        Ok(answer) if answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200") => Ok(()),
        Ok(answer) => Err(answer),
        Err::<_, std::io::Error>(error) => Err(error.to_string()),
    }
}

//! Which images there are: those of Kubernetes' components, as far as their programs are on this machine, and those
//! that whoever runs the podlet adds.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Image;

/// The programs that images hold, under the names that `cargo xtask tools` knows them by.
const COMPONENTS: [&str; 5] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubectl",
];
/// Where these images have their program.
const PROGRAMS: &str = "/usr/local/bin";

/// An image that is not here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// One whose program can be brought.
    #[error("{path} is not on this machine: bring it with `cargo xtask tools {component}`", path = path.display())]
    Component {
        /// The component, and its version where it is not a version that is pinned.
        component: String,
        /// Where it would be.
        path: PathBuf,
    },
    /// One that nothing here knows.
    #[error(
        "the podlet pulls nothing: it has the images of {}, and {reference:?} is none of them",
        COMPONENTS.join(", ")
    )]
    Unknown {
        /// The image as it was asked for.
        reference: String,
    },
}

/// The images of this machine.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    tools: PathBuf,
    added: BTreeMap<String, Image>,
}

impl Catalogue {
    /// The images of components that are in a folder as `cargo xtask tools` fills it: `NAME-VERSION/NAME`.
    pub fn new(tools: impl Into<PathBuf>) -> Self {
        Self {
            tools: tools.into(),
            added: BTreeMap::new(),
        }
    }

    /// Adds an image under a name with any tag or digest.
    #[must_use]
    pub fn with(mut self, name: &str, image: Image) -> Self {
        self.added.insert(name.to_owned(), image);
        self
    }

    /// Finds an image. Of components, whatever the registry: a mirror's are the same.
    ///
    /// # Errors
    /// If it is not here, with the way to bring it.
    pub fn find(&self, reference: &str) -> Result<Image, Missing> {
        let (name, tag) = parts(reference);
        if let Some(image) = self.added.get(name) {
            return Ok(image.clone());
        }
        let unknown = || Missing::Unknown {
            reference: reference.to_owned(),
        };
        let short = name.rsplit('/').next().unwrap_or(name);
        let component = COMPONENTS.into_iter().find(|known| *known == short);
        let component = component.ok_or_else(unknown)?;
        let version = version(tag).ok_or_else(unknown)?;
        let path = self.tools.join(format!("{component}-{version}")).join(component);
        if !path.is_file() {
            return Err(Missing::Component {
                component: format!("{component}-{version}"),
                path,
            });
        }
        Ok(program(format!("{PROGRAMS}/{component}"), path))
    }
}

/// An image of one program, which needs no libraries.
fn program(at: String, source: PathBuf) -> Image {
    Image {
        files: [(at.clone(), source)].into(),
        entrypoint: vec![at],
        ..Image::default()
    }
}

/// The name and the tag of an image.
fn parts(reference: &str) -> (&str, &str) {
    let named = reference.split('@').next().unwrap_or_default();
    // A colon before the last slash is a registry's port.
    match named.rfind(':').filter(|&colon| !named[colon..].contains('/')) {
        Some(colon) => (&named[..colon], &named[colon + 1..]),
        None => (named, ""),
    }
}

/// The version that a tag is of: `v1.36.3` and etcd's `3.6.8-0` say one. Nothing else can be part of a path.
fn version(tag: &str) -> Option<&str> {
    let plain = tag.strip_prefix('v').unwrap_or(tag);
    let version = plain.split('-').next()?;
    let numbers: Vec<&str> = version.split('.').collect();
    let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (numbers.len() == 3 && numbers.iter().all(is_number)).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in ["etcd-3.6.8/etcd", "kube-apiserver-1.36.3/kube-apiserver"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        folder
    }

    #[test]
    fn images_of_components_are_programs_of_this_machine() {
        let tools = tools();
        let images = Catalogue::new(tools.path());
        let found = images
            .find("registry.k8s.io/kube-apiserver:v1.36.3@sha256:aa")
            .unwrap();
        assert_eq!(found.entrypoint, ["/usr/local/bin/kube-apiserver"]);
        assert_eq!(
            found.files["/usr/local/bin/kube-apiserver"],
            tools.path().join("kube-apiserver-1.36.3/kube-apiserver")
        );
        for reference in [
            "registry.k8s.io/etcd:3.6.8-0",
            "mirror:5000/k8s/etcd:v3.6.8",
            "etcd:3.6.8",
        ] {
            images.find(reference).unwrap();
        }
    }

    #[test]
    fn what_is_missing_says_how_it_comes() {
        let tools = tools();
        let images = Catalogue::new(tools.path()).with("example.com/app", Image::default());
        images.find("example.com/app").unwrap();
        images.find("example.com/app:any").unwrap();
        let said = |reference: &str| images.find(reference).unwrap_err().to_string();
        let missing = said("registry.k8s.io/kube-apiserver:v1.35.4");
        assert!(
            missing.ends_with("bring it with `cargo xtask tools kube-apiserver-1.35.4`"),
            "{missing}"
        );
        for reference in [
            "nginx:1.27",
            "registry.k8s.io/etcd",
            "registry.k8s.io/etcd:latest",
            "etcd:v3.6.8/../../x",
            "etcd:3.6.../x",
        ] {
            assert!(said(reference).contains("is none of them"), "{reference}");
        }
    }
}

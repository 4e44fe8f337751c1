//! Installing custom resource definitions without harm to those that are there.
//!
//! A definition is shared by everybody on the cluster, and one that changes shape may drop data of objects that
//! exist. So: what is not there is created; what this program applied before is brought up to date; what another
//! applied is left alone if it has the same shape, and refused with the fields that differ if not. A definition that
//! belongs to another project is created where it lacks, and never touched where it is.

mod shape;

#[cfg(test)]
mod tests;

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use tokio::time::{Instant, sleep};

/// How often a definition is looked at until it is established.
const POLL: Duration = Duration::from_millis(100);

/// How many differing fields an error names.
const NAMED_FIELDS: usize = 10;

/// A definition that the program needs.
#[derive(Clone, Debug)]
pub struct Definition {
    crd: CustomResourceDefinition,
    foreign: bool,
}

impl Definition {
    /// One of the program's own.
    pub fn own(crd: CustomResourceDefinition) -> Self {
        Self { crd, foreign: false }
    }

    /// Another project's. Where it is there already, in any shape, it is not touched.
    pub fn foreign(crd: CustomResourceDefinition) -> Self {
        Self { crd, foreign: true }
    }
}

/// How to install.
#[derive(Clone, Debug)]
pub struct InstallOptions {
    /// The field manager of the program, by which it knows what it applied before.
    pub field_manager: String,
    /// Whether to take over own definitions that are there in another shape.
    pub force: bool,
    /// How long the API server may take to serve a definition.
    pub timeout: Duration,
}

impl InstallOptions {
    /// Takes nothing over, and waits 30 s.
    pub fn new(field_manager: impl Into<String>) -> Self {
        Self {
            field_manager: field_manager.into(),
            force: false,
            timeout: Duration::from_secs(30),
        }
    }
}

/// A definition can't be installed.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    /// It is there in another shape, and another applied it.
    #[error(
        "failed to install the definition {name}: another of that name is there and differs in {}; \
         --force takes it over",
        listed(fields)
    )]
    OtherShape {
        /// The definition's name.
        name: String,
        /// The paths of the fields that differ.
        fields: Vec<String>,
    },
    /// It is there and on its way out.
    #[error("failed to install the definition {name}: it is being deleted")]
    Deleting {
        /// The definition's name.
        name: String,
    },
    /// Another definition has one of its names.
    #[error("failed to install the definition {name}: its names are not accepted: {message}")]
    NamesRefused {
        /// The definition's name.
        name: String,
        /// What the API server says.
        message: String,
    },
    /// The API server does not serve it.
    #[error("failed to install the definition {name}: not established within {limit:?}")]
    NotEstablished {
        /// The definition's name.
        name: String,
        /// The time that it had.
        limit: Duration,
    },
    /// A call failed.
    #[error("failed to {verb} the definition {name}")]
    Call {
        /// What was tried.
        verb: &'static str,
        /// The definition's name.
        name: String,
        /// Why it failed.
        source: kube::Error,
    },
}

fn listed(fields: &[String]) -> String {
    let named: Vec<_> = fields.iter().take(NAMED_FIELDS).map(String::as_str).collect();
    let rest = fields.len() - named.len();
    let named = named.join(", ");
    if rest == 0 {
        named
    } else {
        format!("{named} and {rest} more")
    }
}

/// Installs definitions and waits until the API server serves all of them.
///
/// All are looked at before any is written: where one is refused, nothing is changed.
pub async fn install(
    client: &Client,
    definitions: &[Definition],
    options: &InstallOptions,
) -> Result<(), CrdError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut steps = Vec::new();
    for definition in definitions {
        let present = get(&api, &definition.crd.name_any()).await?;
        steps.push((definition, plan(definition, present.as_ref(), options)?));
    }
    for (definition, step) in &steps {
        match step {
            Step::Leave => {}
            Step::Apply => apply(&api, &definition.crd, options).await?,
            Step::Create => create(&api, definition, options).await?,
        }
    }
    for definition in definitions {
        established(&api, &definition.crd.name_any(), options.timeout).await?;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    Apply,
    Leave,
}

/// What to do about one definition.
fn plan(
    definition: &Definition,
    present: Option<&CustomResourceDefinition>,
    options: &InstallOptions,
) -> Result<Step, CrdError> {
    let Some(present) = present else {
        return Ok(Step::Create);
    };
    if definition.foreign {
        return Ok(Step::Leave);
    }
    let name = present.name_any();
    if present.metadata.deletion_timestamp.is_some() {
        return Err(CrdError::Deleting { name });
    }
    let fields = shape::differences(&definition.crd, present);
    if fields.is_empty() {
        return Ok(Step::Leave);
    }
    if options.force || is_applied_by(present, &options.field_manager) {
        return Ok(Step::Apply);
    }
    Err(CrdError::OtherShape { name, fields })
}

fn is_applied_by(crd: &CustomResourceDefinition, manager: &str) -> bool {
    crd.managed_fields()
        .iter()
        .any(|entry| entry.manager.as_deref() == Some(manager) && entry.operation.as_deref() == Some("Apply"))
}

async fn get(
    api: &Api<CustomResourceDefinition>,
    name: &str,
) -> Result<Option<CustomResourceDefinition>, CrdError> {
    api.get_opt(name).await.map_err(|source| CrdError::Call {
        verb: "read",
        name: name.to_owned(),
        source,
    })
}

async fn apply(
    api: &Api<CustomResourceDefinition>,
    crd: &CustomResourceDefinition,
    options: &InstallOptions,
) -> Result<(), CrdError> {
    let name = crd.name_any();
    let parameters = PatchParams::apply(&options.field_manager).force();
    match api.patch(&name, &parameters, &Patch::Apply(crd)).await {
        Ok(_) => Ok(()),
        Err(source) => Err(CrdError::Call {
            verb: "apply",
            name,
            source,
        }),
    }
}

/// Creates a definition that was not there, and leaves one that another has created meanwhile to the usual rules.
///
/// The apply that follows makes it this program's for the next start; a plain apply could overwrite what came in
/// between.
async fn create(
    api: &Api<CustomResourceDefinition>,
    definition: &Definition,
    options: &InstallOptions,
) -> Result<(), CrdError> {
    let name = definition.crd.name_any();
    let parameters = PostParams {
        field_manager: Some(options.field_manager.clone()),
        ..PostParams::default()
    };
    match api.create(&parameters, &definition.crd).await {
        Ok(_) if definition.foreign => Ok(()),
        Ok(_) => apply(api, &definition.crd, options).await,
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let present = get(api, &name).await?;
            match plan(definition, present.as_ref(), options)? {
                Step::Apply => apply(api, &definition.crd, options).await,
                Step::Create | Step::Leave => Ok(()),
            }
        }
        Err(source) => Err(CrdError::Call {
            verb: "create",
            name,
            source,
        }),
    }
}

async fn established(
    api: &Api<CustomResourceDefinition>,
    name: &str,
    limit: Duration,
) -> Result<(), CrdError> {
    let deadline = Instant::now() + limit;
    loop {
        let crd = get(api, name).await?;
        let conditions = crd.and_then(|crd| crd.status?.conditions).unwrap_or_default();
        let status = |r#type: &str| conditions.iter().find(|condition| condition.type_ == r#type);
        if status("Established").is_some_and(|condition| condition.status == "True") {
            return Ok(());
        }
        if let Some(refused) = status("NamesAccepted").filter(|condition| condition.status == "False") {
            return Err(CrdError::NamesRefused {
                name: name.to_owned(),
                message: refused.message.clone().unwrap_or_default(),
            });
        }
        if Instant::now() >= deadline {
            return Err(CrdError::NotEstablished {
                name: name.to_owned(),
                limit,
            });
        }
        sleep(POLL).await;
    }
}

//! Prints the CRDs as YAML, or writes each to a file of its own: `cargo run -p clusterwright-api --example crds [DIR]`.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args_os().nth(1).map(PathBuf::from);
    let mut crds = clusterwright_api::crds();
    crds.push(clusterwright_api::cluster_crd());
    for crd in crds {
        let yaml = serde_saphyr::to_string(&clusterwright_api::manifest(&crd)?)?;
        match (&dir, crd.metadata.name) {
            (Some(dir), Some(name)) => std::fs::write(dir.join(format!("{name}.yaml")), yaml)?,
            _ => println!("---\n{yaml}"),
        }
    }
    Ok(())
}

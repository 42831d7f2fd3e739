//! The models of a brand: checked, stored as JSON, and signed with the batch key.

use std::path::PathBuf;

use super::brand::Brand;
use super::files::{self, Mode};
use super::{FactoryError, Workshop, now};
use crate::domain::brand::KeyPurpose;
use crate::domain::ids::{BrandId, ModelName};
use crate::domain::model::{Model, sign_model, verify_model};

/// A model to begin with.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Its name.
    pub name: &'static str,
    /// Its JSON.
    pub json: &'static str,
}

/// Three models that the demonstration uses and a maker may start from.
pub const SAMPLES: [Sample; 3] = [
    Sample { name: "garage-door", json: include_str!("models/garage-door.json") },
    Sample { name: "thermostat", json: include_str!("models/thermostat.json") },
    Sample { name: "lamp", json: include_str!("models/lamp.json") },
];

impl Workshop {
    /// Checks a model, signs it and stores both. The same model again changes nothing; a higher version replaces a lower one.
    ///
    /// # Errors
    /// [`FactoryError::Model`] with the path of what is wrong; [`FactoryError::ModelVersion`] for another model of a version not above the stored one.
    pub fn add_model(&self, brand: &BrandId, json: &str) -> Result<Model, FactoryError> {
        let brand = self.brand(brand)?;
        let model = Model::parse(json)?;
        match self.model(&brand, &model.name) {
            Ok((held, _)) if held == model => return Ok(model),
            Ok((held, _)) if held.version >= model.version => return Err(FactoryError::ModelVersion { held: held.version }),
            Ok(_) | Err(FactoryError::NoModel(..)) => {}
            Err(other) => return Err(other),
        }
        let key = self.purpose_key(&brand, KeyPurpose::Batch)?;
        let statement = sign_model(&key.signing, &brand.id, &model, now());
        // What hubs will read is the signed text, which spells out what the maker's may leave out: it must hold as well.
        verify_model(&key.signing.verifying_key().to_bytes(), &statement)?;
        files::private_dir(&brand.dir.join("models"))?;
        let text = serde_json::to_string_pretty(&model).unwrap_or_default() + "\n";
        files::replace(&path(&brand, &model.name, "json"), Mode::Public, text.as_bytes())?;
        files::replace(&path(&brand, &model.name, "cose"), Mode::Public, &statement)?;
        Ok(model)
    }

    /// A stored model and its statement, of which the signature has held.
    pub(super) fn model(&self, brand: &Brand, name: &ModelName) -> Result<(Model, Vec<u8>), FactoryError> {
        let path = path(brand, name, "cose");
        if !path.exists() {
            return Err(FactoryError::NoModel(brand.id.clone(), name.clone()));
        }
        let statement = files::read(&path)?.to_vec();
        let key = self.purpose_key(brand, KeyPurpose::Batch)?;
        let (_, model) = verify_model(&key.signing.verifying_key().to_bytes(), &statement)?;
        Ok((model, statement))
    }
}

fn path(brand: &Brand, name: &ModelName, extension: &str) -> PathBuf {
    brand.dir.join("models").join(format!("{name}.{extension}"))
}

//! The hand of whoever runs the cloud: its databases and keys for commands, beside a running cloud or without one.

use super::cluster::Cluster;
use super::keys::{Directory, Keys};
use super::pool::Shards;
use super::{Config, Database, KeyError, StartError, migrations, open_database};

/// Databases and keys for a command.
pub struct Operator {
    pub(super) config: Config,
    pub(super) keys: Keys,
    pub(super) shards: Shards,
    /// Started for this command alone.
    cluster: Option<Cluster>,
    _directory: Option<Directory>,
}

impl Operator {
    /// Opens them. Where a cloud runs over the directory, its PostgreSQL is used; else it is started for as long as
    /// this is open.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn open(config: Config) -> Result<Operator, StartError> {
        let directory = match Directory::open(&config.data_dir) {
            Ok(directory) => Some(directory),
            Err(KeyError::InUse(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let keys = match &directory {
            Some(directory) => Keys::load(directory)?,
            None => Keys::read(&config.data_dir)?,
        };
        let (cluster, shards) = if directory.is_none() && config.database == Database::Private {
            let connection = Cluster::beside(&config.data_dir.join("postgres"))?;
            (None, Shards::of(vec![connection], 2)?)
        } else {
            open_database(&config).await?
        };
        let operator = Operator { config, keys, shards, cluster, _directory: directory };
        let ready = async {
            migrations::apply(&operator.shards).await?;
            migrations::same_keys(&operator.shards, &operator.keys).await
        };
        match ready.await {
            Ok(()) => Ok(operator),
            Err(error) => {
                operator.close().await;
                Err(error.into())
            }
        }
    }

    /// Lets go of them.
    pub async fn close(self) {
        self.shards.close();
        if let Some(cluster) = self.cluster {
            cluster.stop().await;
        }
    }
}

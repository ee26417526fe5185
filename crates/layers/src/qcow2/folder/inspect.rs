//! Looking at a pool that another process may have open: nothing is locked, nothing is changed.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use serde_json::Value;
use stillpoint_model::id::{PoolId, VolumeId};
use stillpoint_model::layer_tree::{LayerTree, Refusal};

use super::{PoolFile, Qcow2Driver};
use crate::driver::{Found, LiveStorage};
use crate::{Driver, Error};

/// A pool as its folder records it at one moment.
pub struct Inspection {
    /// Only asked what it knows by looking.
    driver: Qcow2Driver,
    tree: LayerTree,
    damage: Vec<String>,
}

impl Inspection {
    /// Reads the folder. What a process that has the pool open changes meanwhile may be seen
    /// half; looking again shows it whole.
    pub fn of(path: &Path) -> Result<Self, Error> {
        let not_a_pool = |reason: String| Error::NotAPool {
            path: path.to_owned(),
            reason,
        };
        let pool_file = path.join("pool.json");
        let bytes = fs::read(&pool_file).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => not_a_pool("it has no pool.json".to_owned()),
            _ => Error::io("reading pool.json", e),
        })?;
        let file: PoolFile =
            serde_json::from_slice(&bytes).map_err(|e| not_a_pool(e.to_string()))?;
        if file.format != 1 {
            return Err(not_a_pool(format!("its format is {}", file.format)));
        }
        let unlocked = File::open(&pool_file).map_err(|e| Error::io("opening pool.json", e))?;
        let driver = Qcow2Driver {
            path: path.to_owned(),
            id: file.pool,
            places: super::places::Places::default(),
            _lock: unlocked,
        };
        let found = driver.look()?;
        let damage = found.damaged.iter().map(ToString::to_string);
        let mut damage: Vec<String> = damage.collect();
        let tree = LayerTree::new(found.layers, found.records);
        damage.extend(tree.inconsistencies().iter().map(ToString::to_string));
        Ok(Self {
            driver,
            tree,
            damage,
        })
    }

    /// The pool.
    pub fn id(&self) -> PoolId {
        self.driver.id
    }

    /// Its tree.
    pub fn tree(&self) -> &LayerTree {
        &self.tree
    }

    /// What cannot be trusted, in words.
    pub fn damage(&self) -> &[String] {
        &self.damage
    }

    /// The explicit block graph of a volume; see [`crate::Pool::block_graph`].
    pub fn block_graph(&self, volume: VolumeId) -> Result<Value, Error> {
        let tip = self.tree.tip(volume).ok_or(Refusal::NoVolume(volume))?;
        self.tree.check_whole(volume)?;
        self.driver.block_graph(volume, &self.tree.chain(tip))
    }
}

impl Qcow2Driver {
    /// [`Driver::load`] without finishing anything.
    fn look(&self) -> Result<Found, Error> {
        let mut found = Found::default();
        self.load_records(&mut found)?;
        for layer in self.locate(&found.records)?.layers {
            match self.inspect(layer) {
                Ok(seen) => drop(found.layers.insert(layer, seen)),
                Err(error) => found.damaged.push(error),
            }
        }
        Ok(found)
    }
}

//! Every driver against the suite.

use std::sync::Arc;

use stillpoint_env::SimEnv;
use stillpoint_model::Env;
use stillpoint_model::id::PoolId;

use crate::conformance::{Storage, check_all};
use crate::memory::{MemoryDisk, MemoryDriver};
use crate::qcow2::Qcow2Driver;

struct Memory(MemoryDisk);

impl Storage for Memory {
    type Driver = MemoryDriver;

    fn driver(&self) -> MemoryDriver {
        MemoryDriver::new(self.0.clone())
    }
}

struct Folder(tempfile::TempDir, PoolId);

impl Storage for Folder {
    type Driver = Qcow2Driver;

    fn driver(&self) -> Qcow2Driver {
        Qcow2Driver::open(self.0.path(), self.1).unwrap()
    }
}

#[test]
fn memory_passes() {
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(1));
    check_all(
        || Memory(MemoryDisk::new(PoolId::generate(env.as_ref()))),
        &env,
    );
}

#[test]
fn qcow2_passes() {
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(2));
    check_all(
        || Folder(tempfile::tempdir().unwrap(), PoolId::generate(env.as_ref())),
        &env,
    );
}

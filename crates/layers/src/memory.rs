//! Layers in memory: a pool for simulations and tests, held to the same contract as the others.
//!
//! The [`MemoryDisk`] is what survives a crash: open another pool on it to see what a restarted
//! process would. Each step is atomic, and durable at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stillpoint_model::ByteCount;
use stillpoint_model::id::{LayerId, PoolId, VolumeId};
use stillpoint_model::layer_tree::{Direction, Layer, VolumeRecord};

use crate::driver::{Found, Holds, Join, LayerMap, LayerWriter, Run};
use crate::{BLOCK_SIZE, Capabilities, Driver, Error};

/// The bytes of a block, or zeros.
type Block = Option<Box<[u8]>>;

/// What survives a crash.
#[derive(Clone, Debug)]
pub struct MemoryDisk {
    id: PoolId,
    content: Arc<Mutex<Content>>,
}

#[derive(Debug, Default)]
struct Content {
    layers: BTreeMap<LayerId, MemoryLayer>,
    records: BTreeMap<VolumeId, VolumeRecord>,
    making: BTreeMap<LayerId, MemoryLayer>,
}

#[derive(Clone, Debug)]
struct MemoryLayer {
    owner: VolumeId,
    parent: Option<LayerId>,
    size: ByteCount,
    blocks: Arc<BTreeMap<u64, Block>>,
}

impl MemoryLayer {
    fn allocated(&self) -> ByteCount {
        let blocks = self.blocks.values().filter(|block| block.is_some()).count();
        ByteCount::new(blocks as u64 * BLOCK_SIZE)
    }
}

impl MemoryDisk {
    /// An empty disk of a pool with this id.
    pub fn new(id: PoolId) -> Self {
        Self {
            id,
            content: Arc::new(Mutex::new(Content::default())),
        }
    }

    /// What a guest would do: writes to a volume's tip, a multiple of
    /// [`BLOCK_SIZE`] at a multiple of it. For tests and simulations, which have no guests.
    pub fn guest_write(&self, tip: LayerId, offset: u64, data: &[u8]) -> Result<(), Error> {
        let mut content = self.content();
        let layer = content
            .layers
            .get_mut(&tip)
            .ok_or(Error::LayerMissing(tip))?;
        store(layer, offset, data);
        Ok(())
    }

    /// Loses a layer, as a broken disk would.
    pub fn lose_layer(&self, layer: LayerId) {
        self.content().layers.remove(&layer);
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The driver for a [`MemoryDisk`].
#[derive(Clone, Debug)]
pub struct MemoryDriver {
    disk: MemoryDisk,
}

impl MemoryDriver {
    /// A driver for what is on this disk.
    pub const fn new(disk: MemoryDisk) -> Self {
        Self { disk }
    }
}

impl Driver for MemoryDriver {
    fn id(&self) -> PoolId {
        self.disk.id
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: "memory",
            live_capture: false,
            max_volume_size: ByteCount::from_gib(16 << 10),
        }
    }

    fn load(&self) -> Result<Found, Error> {
        let content = self.disk.content();
        let layers = content.layers.iter().map(|(id, layer)| {
            let MemoryLayer {
                owner,
                parent,
                size,
                ..
            } = *layer;
            (
                *id,
                Layer {
                    owner,
                    parent,
                    size,
                    allocated: layer.allocated(),
                },
            )
        });
        Ok(Found {
            layers: layers.collect(),
            records: content.records.clone(),
            damaged: Vec::new(),
        })
    }

    fn create_layer(
        &self,
        layer: LayerId,
        owner: VolumeId,
        parent: Option<LayerId>,
        size: ByteCount,
    ) -> Result<(), Error> {
        let blocks = Arc::default();
        self.disk.content().layers.insert(
            layer,
            MemoryLayer {
                owner,
                parent,
                size,
                blocks,
            },
        );
        Ok(())
    }

    fn own_layer(&self, layer: LayerId, owner: VolumeId) -> Result<(), Error> {
        let mut content = self.disk.content();
        content
            .layers
            .get_mut(&layer)
            .ok_or(Error::LayerMissing(layer))?
            .owner = owner;
        Ok(())
    }

    fn grow_layer(&self, layer: LayerId, size: ByteCount) -> Result<(), Error> {
        let mut content = self.disk.content();
        content
            .layers
            .get_mut(&layer)
            .ok_or(Error::LayerMissing(layer))?
            .size = size;
        Ok(())
    }

    fn seal_layer(&self, _layer: LayerId) -> Result<(), Error> {
        Ok(())
    }

    fn remove_layer(&self, layer: LayerId) -> Result<(), Error> {
        self.disk.content().layers.remove(&layer);
        Ok(())
    }

    fn put_record(&self, volume: VolumeId, record: &VolumeRecord) -> Result<(), Error> {
        self.disk.content().records.insert(volume, record.clone());
        Ok(())
    }

    fn remove_record(&self, volume: VolumeId) -> Result<(), Error> {
        self.disk.content().records.remove(&volume);
        Ok(())
    }

    fn allocated(&self, layer: LayerId) -> Result<ByteCount, Error> {
        let content = self.disk.content();
        let layer = content
            .layers
            .get(&layer)
            .ok_or(Error::LayerMissing(layer))?;
        Ok(layer.allocated())
    }

    fn check_unused(&self, _layer: LayerId) -> Result<(), Error> {
        Ok(())
    }

    fn open_layer(
        &self,
        layer: LayerId,
        _parent: Option<LayerId>,
    ) -> Result<Box<dyn LayerMap>, Error> {
        let content = self.disk.content();
        let layer = content
            .layers
            .get(&layer)
            .ok_or(Error::LayerMissing(layer))?;
        Ok(Box::new(layer.clone()))
    }

    fn begin_layer(
        &self,
        layer: LayerId,
        owner: VolumeId,
        size: ByteCount,
    ) -> Result<Box<dyn LayerWriter>, Error> {
        let new = MemoryLayer {
            owner,
            parent: None,
            size,
            blocks: Arc::default(),
        };
        self.disk.content().making.insert(layer, new);
        Ok(Box::new(MemoryWriter {
            disk: self.disk.clone(),
            layer,
            is_new: true,
            done: false,
        }))
    }

    fn reopen_layer(
        &self,
        layer: LayerId,
        _size: ByteCount,
    ) -> Result<Box<dyn LayerWriter>, Error> {
        Ok(Box::new(MemoryWriter {
            disk: self.disk.clone(),
            layer,
            is_new: false,
            done: false,
        }))
    }

    fn join_layers(&self, join: &Join) -> Result<(), Error> {
        let mut content = self.disk.content();
        let keeps = match join.direction {
            Direction::Commit => join.parent,
            Direction::Stream => join.child,
        };
        let kept = content
            .layers
            .get(&keeps)
            .ok_or(Error::LayerMissing(keeps))?;
        let blocks = Arc::clone(&kept.blocks);
        let joined = MemoryLayer {
            owner: join.owner,
            parent: join.grandparent,
            size: join.size,
            blocks,
        };
        content.layers.remove(&join.parent);
        content.layers.insert(join.child, joined);
        Ok(())
    }

    fn unfinished(&self) -> Result<Vec<(Option<LayerId>, String)>, Error> {
        let content = self.disk.content();
        Ok(content
            .making
            .keys()
            .map(|id| (Some(*id), id.to_string()))
            .collect())
    }

    fn remove_unfinished(&self, name: &str) -> Result<(), Error> {
        self.disk
            .content()
            .making
            .retain(|id, _| id.to_string() != name);
        Ok(())
    }

    fn space(&self) -> Result<(ByteCount, ByteCount), Error> {
        let capacity = ByteCount::from_gib(1 << 20);
        let used = self
            .disk
            .content()
            .layers
            .values()
            .map(MemoryLayer::allocated)
            .sum();
        Ok((capacity, capacity.saturating_sub(used)))
    }

    fn block_graph(
        &self,
        _volume: VolumeId,
        _chain: &[LayerId],
    ) -> Result<serde_json::Value, Error> {
        Err(Error::Unsupported("give its volumes to QEMU"))
    }
}

impl LayerMap for MemoryLayer {
    fn size(&self) -> ByteCount {
        self.size
    }

    fn run_at(&self, offset: u64) -> Result<Run, Error> {
        let first = offset / BLOCK_SIZE;
        let end = self.size.get().div_ceil(BLOCK_SIZE);
        let kind = |block: Option<&Block>| match block {
            None => Holds::Below,
            Some(None) => Holds::Zeros,
            Some(Some(_)) => Holds::Data,
        };
        let holds = kind(self.blocks.get(&first));
        let stop = if holds == Holds::Below {
            self.blocks
                .range(first..end)
                .next()
                .map_or(end, |(index, _)| *index)
        } else {
            (first..end)
                .find(|index| kind(self.blocks.get(index)) != holds)
                .unwrap_or(end)
        };
        let len = (stop * BLOCK_SIZE).min(self.size.get()) - offset;
        Ok(Run { len, holds })
    }

    fn read_data(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        for (index, byte) in buf.iter_mut().enumerate() {
            let at = offset + index as u64;
            let within = usize::try_from(at % BLOCK_SIZE).unwrap_or(0);
            let block = self.blocks.get(&(at / BLOCK_SIZE)).and_then(Option::as_ref);
            *byte = block
                .and_then(|block| block.get(within))
                .copied()
                .unwrap_or(0);
        }
        Ok(())
    }
}

/// Writes to a layer, whether it exists already or not.
struct MemoryWriter {
    disk: MemoryDisk,
    layer: LayerId,
    is_new: bool,
    done: bool,
}

impl MemoryWriter {
    fn change(&self, change: impl FnOnce(&mut MemoryLayer)) -> Result<(), Error> {
        let mut content = self.disk.content();
        let layers = if self.is_new {
            &mut content.making
        } else {
            &mut content.layers
        };
        change(
            layers
                .get_mut(&self.layer)
                .ok_or(Error::LayerMissing(self.layer))?,
        );
        Ok(())
    }
}

impl LayerWriter for MemoryWriter {
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.change(|layer| store(layer, offset, data))
    }

    fn zero_at(&self, offset: u64, len: u64) -> Result<(), Error> {
        self.change(|layer| {
            let blocks = Arc::make_mut(&mut layer.blocks);
            let range = offset / BLOCK_SIZE..(offset + len).div_ceil(BLOCK_SIZE);
            if layer.parent.is_none() {
                blocks.retain(|index, _| !range.contains(index));
            } else {
                blocks.extend(range.map(|index| (index, None)));
            }
        })
    }

    fn finish(mut self: Box<Self>) -> Result<(), Error> {
        if self.is_new {
            let mut content = self.disk.content();
            let layer = content.making.remove(&self.layer);
            let layer = layer.ok_or(Error::LayerMissing(self.layer))?;
            content.layers.insert(self.layer, layer);
        }
        self.done = true;
        Ok(())
    }
}

impl Drop for MemoryWriter {
    fn drop(&mut self) {
        if self.is_new && !self.done {
            self.disk.content().making.remove(&self.layer);
        }
    }
}

fn store(layer: &mut MemoryLayer, offset: u64, data: &[u8]) {
    let blocks = Arc::make_mut(&mut layer.blocks);
    let block_len = usize::try_from(BLOCK_SIZE).unwrap_or(usize::MAX);
    for (index, piece) in (offset / BLOCK_SIZE..).zip(data.chunks(block_len)) {
        let mut block = piece.to_vec();
        block.resize(block_len, 0);
        blocks.insert(index, Some(block.into_boxed_slice()));
    }
}

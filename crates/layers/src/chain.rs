//! Reading through a chain of layers, and what differs between two of them.

use stillpoint_model::{ByteCount, ByteRange};

use crate::driver::{Holds, LayerMap, Run};
use crate::{Error, Extent};

/// The most ranges that [`changed`] answers.
const MAX_RANGES: usize = 1_000_000;

/// A layer with everything below it, the layer first.
pub(crate) struct Chain {
    layers: Vec<Box<dyn LayerMap>>,
}

/// A stretch of a chain, and the layer that has its data, if it is data.
struct Place {
    len: u64,
    data_in: Option<usize>,
}

impl Chain {
    pub(crate) fn new(layers: Vec<Box<dyn LayerMap>>) -> Self {
        Self { layers }
    }

    pub(crate) fn size(&self) -> ByteCount {
        self.layers
            .first()
            .map_or(ByteCount::ZERO, |layer| layer.size())
    }

    /// Fills `buf` from `offset`.
    pub(crate) fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        let len = buf.len() as u64;
        if offset
            .checked_add(len)
            .is_none_or(|end| end > self.size().get())
        {
            return Err(Error::OutOfBounds {
                offset,
                len,
                size: self.size(),
            });
        }
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let place = self.place_at(at)?;
            let here = usize::try_from(place.len)
                .unwrap_or(usize::MAX)
                .min(buf.len() - done);
            let part = &mut buf[done..done + here];
            match place.data_in.and_then(|index| self.layers.get(index)) {
                Some(layer) => layer.read_data(at, part)?,
                None => part.fill(0),
            }
            done += here;
        }
        Ok(())
    }

    /// The extent from `offset` on; none at the end.
    pub(crate) fn extent_at(&self, offset: u64) -> Result<Option<Extent>, Error> {
        if offset >= self.size().get() {
            return Ok(None);
        }
        let place = self.place_at(offset)?;
        let range = ByteRange::new(offset, place.len);
        Ok(Some(Extent {
            range,
            data: place.data_in.is_some(),
        }))
    }

    /// Checks everything that each layer names.
    pub(crate) fn verify(&self, mut each: impl FnMut() -> Result<(), Error>) -> Result<(), Error> {
        for layer in &self.layers {
            each()?;
            layer.verify()?;
        }
        Ok(())
    }

    fn place_at(&self, offset: u64) -> Result<Place, Error> {
        let mut len = self.size().get().saturating_sub(offset);
        for (index, layer) in self.layers.iter().enumerate() {
            let end = layer.size().get();
            if offset >= end {
                break;
            }
            let run = layer.run_at(offset)?;
            len = len.min(run.len);
            match run.holds {
                Holds::Below => {}
                Holds::Zeros => return Ok(Place { len, data_in: None }),
                Holds::Data => {
                    return Ok(Place {
                        len,
                        data_in: Some(index),
                    });
                }
            }
        }
        Ok(Place { len, data_in: None })
    }
}

/// Where at least one of the layers holds something itself, up to `size`.
pub(crate) fn changed(
    layers: &[Box<dyn LayerMap>],
    size: ByteCount,
) -> Result<Vec<ByteRange>, Error> {
    let mut ranges = Ranges::default();
    let mut offset = 0;
    while offset < size.get() {
        let run = union_at(layers, offset, size.get())?;
        if run.holds != Holds::Below {
            ranges.push(offset, run.len);
        }
        offset += run.len;
    }
    Ok(ranges.found)
}

/// Where a chain may hold something else than zeros.
pub(crate) fn data(chain: &Chain) -> Result<Vec<ByteRange>, Error> {
    let mut ranges = Ranges::default();
    let mut offset = 0;
    while let Some(extent) = chain.extent_at(offset)? {
        if extent.data {
            ranges.push(extent.range.offset, extent.range.len);
        }
        offset = extent.range.end();
    }
    Ok(ranges.found)
}

fn union_at(layers: &[Box<dyn LayerMap>], offset: u64, size: u64) -> Result<Run, Error> {
    let mut below = size - offset;
    for layer in layers {
        let end = layer.size().get();
        if offset >= end {
            continue;
        }
        let run = layer.run_at(offset)?;
        let len = run.len.min(size - offset);
        if run.holds != Holds::Below {
            return Ok(Run {
                len,
                holds: Holds::Data,
            });
        }
        below = below.min(len);
    }
    Ok(Run {
        len: below,
        holds: Holds::Below,
    })
}

/// Collects ranges in order and joins neighbours; joins over growing gaps when they become too
/// many, since saying that more changed than did is only slower.
#[derive(Default)]
struct Ranges {
    found: Vec<ByteRange>,
    gap: u64,
}

impl Ranges {
    fn push(&mut self, offset: u64, len: u64) {
        if let Some(last) = self.found.last_mut()
            && offset - last.end() <= self.gap
        {
            last.len = offset + len - last.offset;
            return;
        }
        self.found.push(ByteRange::new(offset, len));
        while self.found.len() >= MAX_RANGES {
            self.gap = (self.gap * 2).max(crate::BLOCK_SIZE);
            self.join();
        }
    }

    fn join(&mut self) {
        let gap = self.gap;
        self.found.dedup_by(|next, last| {
            let joined = next.offset - last.end() <= gap;
            if joined {
                last.len = next.end() - last.offset;
            }
            joined
        });
    }
}

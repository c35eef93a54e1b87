//! Named tensors in a file: safetensors both ways, PyTorch's `.pt` in.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufWriter, IntoInnerError, Write};
use std::path::{Path, PathBuf};

use burn::tensor::{DType, TensorData, bf16, f16};
#[cfg(feature = "pytorch")]
use burn_store::pytorch::PytorchReader;
use esmm_files::NewFile;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors, View};

use crate::error::EsmmError;

/// The values of a safetensors file begin at a multiple of so many bytes.
const ALIGNMENT: usize = 8;

/// Named tensors, as PyTorch's `state_dict` has them.
///
/// # Examples
/// ```
/// use burn_ndarray::NdArray;
/// use esmm_core::{EsmmConfig, Feature, FeatureSchema, Side};
///
/// # fn main() -> Result<(), esmm_core::EsmmError> {
/// let schema = FeatureSchema::new(vec![Feature::sparse("user", Side::User, 1000)])?;
/// let config = EsmmConfig::new(schema);
/// let device = Default::default();
/// let dict = config.init::<NdArray>(&device)?.state_dict();
/// assert_eq!(dict.entries["user.weight"].shape.to_vec(), [1000, 18]);
/// // Into another model of the same shape; a file goes by `EsmmConfig::load` and `write_safetensors`.
/// let model = EsmmConfig { seed: 7, ..config }.init::<NdArray>(&device)?.load_state_dict(dict)?;
/// # let _ = model;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct StateDict {
    /// Where they come from, for messages.
    pub source: PathBuf,
    /// Name to values. Floats are f32, counters i64.
    pub entries: BTreeMap<String, TensorData>,
}

impl StateDict {
    /// An empty one that is not from a file.
    pub fn new(source: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), entries: BTreeMap::new() }
    }

    /// Reads a safetensors file, or with the feature `pytorch` a `.pt` or `.pth` file of `torch.save`. Floats of 16 and of
    /// 64 bits become f32. In a `.pt` the weights may stand under `state_dict`, `model_state_dict` or `model`.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or holds something other than float and integer tensors.
    pub fn read(path: &Path) -> Result<Self, EsmmError> {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        match extension {
            "pt" | "pth" | "bin" => read_pytorch(path),
            _ => read_safetensors(path),
        }
    }

    /// Writes a safetensors file, which appears whole or not at all.
    ///
    /// # Errors
    /// A disk that refuses. The file at `path` is then as it was.
    pub fn write_safetensors(&self, path: &Path) -> Result<(), EsmmError> {
        let write = || -> io::Result<()> {
            let mut file = BufWriter::new(NewFile::beside(path)?);
            self.write_to(&mut file)?;
            file.into_inner().map_err(IntoInnerError::into_error)?.finish()
        };
        write().map_err(|error| weights(path, &format!("cannot be written: {error}")))
    }

    /// Writes the bytes of a safetensors file: eight with the length of a JSON header, the header with name, dtype, shape and
    /// place of every tensor, then their values as little-endian bytes without gaps. The largest dtype comes first, and among
    /// tensors of one dtype the first name.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_to(&self, writer: &mut impl Write) -> io::Result<()> {
        let mut entries: Vec<(&String, DataView<'_>)> =
            self.entries.iter().map(|(name, data)| (name, DataView(data))).collect();
        // Names are sorted already.
        entries.sort_by_key(|(_, view)| Reverse(view.dtype()));
        let mut end = 0;
        let tensors = entries.iter().map(|(name, view)| {
            let start = end;
            end += view.data_len();
            let shape = view.shape().to_vec();
            ((*name).clone(), TensorInfo { dtype: view.dtype(), shape, data_offsets: (start, end) })
        });
        let metadata = Metadata::new(None, tensors.collect()).map_err(io::Error::other)?;
        let mut header = serde_json::to_vec(&metadata)?;
        header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
        writer.write_all(&(header.len() as u64).to_le_bytes())?;
        writer.write_all(&header)?;
        entries.iter().try_for_each(|(_, view)| writer.write_all(&view.data()))
    }

    /// The name of the first entry with a value that is NaN or infinite.
    pub fn first_not_finite(&self) -> Option<&str> {
        let is_finite = |data: &TensorData| first_not_finite(data).is_none();
        self.entries.iter().find(|(_, data)| !is_finite(data)).map(|(name, _)| name.as_str())
    }

    /// Without a prefix that a wrapper put before the names, such as `module.` (`torch.nn.DataParallel`) or `_orig_mod.`
    /// (`torch.compile`). Entries without it stay as they are.
    ///
    /// # Errors
    /// A prefix that no entry has, and one without which two entries would have the same name.
    pub fn strip_prefix(mut self, prefix: &str) -> Result<Self, EsmmError> {
        let has_prefix = |name: &&String| name.len() > prefix.len() && name.starts_with(prefix);
        let wrapped: Vec<String> = self.entries.keys().filter(has_prefix).cloned().collect();
        if prefix.is_empty() || wrapped.is_empty() {
            let first = self.entries.keys().next().map_or("none".to_owned(), |name| format!("`{name}`"));
            let reason = format!("no entry begins with `{prefix}` (the first one is {first})");
            return Err(weights(&self.source, &reason));
        }
        for name in wrapped {
            let bare = name[prefix.len()..].to_owned();
            let Some(data) = self.entries.remove(&name) else { continue };
            if self.entries.insert(bare.clone(), data).is_some() {
                let reason = format!("without `{prefix}` two entries are named `{bare}`");
                return Err(weights(&self.source, &reason));
            }
        }
        Ok(self)
    }

    /// Takes an entry of a shape.
    ///
    /// # Errors
    /// An entry that is missing, has another shape or type, or a value that is not finite; the error names it.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<TensorData, EsmmError> {
        let Some(data) = self.entries.remove(name) else {
            return Err(self.missing(name, nearest(name, self.entries.keys())));
        };
        if data.shape.to_vec() == shape && data.dtype == DType::F32 {
            return match first_not_finite(&data) {
                None => Ok(data),
                Some((index, value)) => {
                    let reason = format!(
                        "entry `{name}` holds {value} (value {index} of {}): weights must be finite",
                        data.num_elements()
                    );
                    Err(weights(&self.source, &reason))
                }
            };
        }
        let found = format!("{:?} {:?}", data.dtype, data.shape.to_vec());
        let expected = format!("F32 {shape:?}");
        Err(EsmmError::EntryShape { path: self.source.clone(), name: name.to_owned(), found, expected })
    }

    /// Checks that the names are those of a model, counters of batches aside.
    ///
    /// # Errors
    /// Names the first entry that is missing, or else the first that is left over.
    pub fn check_names(&self, known: &[String]) -> Result<(), EsmmError> {
        let is_counter = |name: &&String| name.ends_with("num_batches_tracked");
        let mut surplus = self.entries.keys().filter(|name| !is_counter(name) && !known.contains(name));
        let mut needed = known.iter().filter(|name| !is_counter(name));
        if let Some(name) = needed.find(|name| !self.entries.contains_key(*name)) {
            // Only a name that the model does not know can be another spelling of one that it misses.
            let hint = self.wrapped(known, is_counter).unwrap_or_else(|| nearest(name, surplus));
            return Err(self.missing(name, hint));
        }
        match surplus.next() {
            None => Ok(()),
            Some(name) => Err(EsmmError::SurplusEntry {
                path: self.source.clone(),
                name: name.clone(),
                hint: nearest(name, known.iter()),
            }),
        }
    }

    /// A hint where all entries are there, with a prefix before their names.
    fn wrapped(&self, known: &[String], is_counter: impl Fn(&&String) -> bool) -> Option<String> {
        let mut needed = known.iter().filter(|name| !is_counter(name));
        let first = needed.next()?;
        let prefixes = self.entries.keys().filter_map(|name| name.strip_suffix(first.as_str()));
        let prefix = prefixes.filter(|prefix| prefix.ends_with('.')).min_by_key(|prefix| prefix.len())?;
        if !needed.all(|name| self.entries.contains_key(&format!("{prefix}{name}"))) {
            return None;
        }
        let writer = match prefix {
            "module." => ", as torch.nn.DataParallel writes them",
            "_orig_mod." => ", as torch.compile writes them",
            _ => "",
        };
        Some(format!(
            ": the names begin with `{prefix}`{writer}; strip it with `--strip-prefix {prefix}` or \
             `StateDict::strip_prefix`"
        ))
    }

    fn missing(&self, name: &str, hint: String) -> EsmmError {
        EsmmError::MissingEntry { path: self.source.clone(), name: name.to_owned(), hint }
    }
}

/// Place and value of the first float that is NaN or infinite.
fn first_not_finite(data: &TensorData) -> Option<(usize, f32)> {
    let values = data.as_slice::<f32>().unwrap_or_default();
    values.iter().copied().enumerate().find(|(_, value)| !value.is_finite())
}

fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a String>) -> String {
    candidates
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or_else(String::new, |(_, candidate)| format!(" (did you mean `{candidate}`?)"))
}

fn weights(path: &Path, reason: &str) -> EsmmError {
    EsmmError::Weights { path: path.to_owned(), reason: reason.to_owned() }
}

fn read_safetensors(path: &Path) -> Result<StateDict, EsmmError> {
    let bytes = fs::read(path).map_err(|error| weights(path, &format!("cannot be read: {error}")))?;
    let damaged = |error| weights(path, &format!("is no whole safetensors file: {error}"));
    let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
    let mut dict = StateDict::new(path);
    for (name, view) in file.tensors() {
        let shape = view.shape().to_vec();
        let bytes = view.data();
        let data = match view.dtype() {
            Dtype::F32 => TensorData::new(numbers(bytes, f32::from_le_bytes), shape),
            Dtype::F64 => TensorData::new(numbers(bytes, |b| f64::from_le_bytes(b) as f32), shape),
            Dtype::F16 => TensorData::new(numbers(bytes, |b| f16::from_le_bytes(b).to_f32()), shape),
            Dtype::BF16 => TensorData::new(numbers(bytes, |b| bf16::from_le_bytes(b).to_f32()), shape),
            Dtype::I64 => TensorData::new(numbers(bytes, i64::from_le_bytes), shape),
            other => {
                let (found, expected) =
                    (format!("{other:?} {shape:?}"), "F32, F64, F16, BF16 or I64".to_owned());
                return Err(EsmmError::EntryShape { path: path.to_owned(), name, found, expected });
            }
        };
        dict.entries.insert(name, data);
    }
    Ok(dict)
}

fn numbers<T, const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| number(*chunk)).collect()
}

#[cfg(feature = "pytorch")]
fn read_pytorch(path: &Path) -> Result<StateDict, EsmmError> {
    let unreadable = |reason: String| weights(path, &format!("is no PyTorch state dict: {reason}"));
    let mut reader = PytorchReader::new(path).map_err(|error| unreadable(format!("{error:?}")))?;
    // A name `model.weight` can be a feature's: only the file tells whether `model` is a dictionary of its own.
    let nested = ["state_dict", "model_state_dict", "model"].into_iter().find_map(|key| {
        let inside = PytorchReader::with_top_level_key(path, key).ok()?;
        (!inside.is_empty()).then_some(inside)
    });
    if let Some(inside) = nested {
        reader = inside;
    }
    let mut dict = StateDict::new(path);
    for (name, snapshot) in reader.into_tensors() {
        let data = snapshot.to_data().map_err(|error| unreadable(format!("entry `{name}`: {error:?}")))?;
        let data = if data.dtype.is_float() { data.convert::<f32>() } else { data.convert::<i64>() };
        dict.entries.insert(name, data);
    }
    Ok(dict)
}

#[cfg(not(feature = "pytorch"))]
fn read_pytorch(path: &Path) -> Result<StateDict, EsmmError> {
    Err(weights(path, "reading PyTorch files needs the cargo feature `pytorch`"))
}

struct DataView<'a>(&'a TensorData);

impl View for DataView<'_> {
    fn dtype(&self) -> Dtype {
        if self.0.dtype == DType::I64 { Dtype::I64 } else { Dtype::F32 }
    }

    fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.0.as_bytes())
    }

    fn data_len(&self) -> usize {
        self.0.as_bytes().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_library() {
        let mut dict = StateDict::new("test");
        let values: Vec<f32> = (0..15).map(|value| value as f32 / 7.0).collect();
        dict.entries.insert("b.weight".to_owned(), TensorData::new(values, [3, 5]));
        dict.entries.insert("a.count".to_owned(), TensorData::new(vec![7_i64], [1]));
        dict.entries.insert("a.bias".to_owned(), TensorData::new(vec![0.5_f32], [1]));
        let mut bytes = Vec::new();
        dict.write_to(&mut bytes).unwrap();
        let views = dict.entries.iter().map(|(name, data)| (name.as_str(), DataView(data)));
        assert_eq!(bytes, safetensors::serialize(views, None).unwrap());
    }
}

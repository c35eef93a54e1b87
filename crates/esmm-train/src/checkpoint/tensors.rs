//! The tensors of a module in a safetensors file, streamed: from where they lie to the disk and back, a chunk at a time.
//!
//! Eight bytes with the length of a JSON header, the header with name, shape and place of every tensor, then their values
//! as little-endian f32 without gaps. Tensors are named by their place in the module, as `model.embeddings.table`.

use std::io::{self, Read, Write};
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive};
use esmm_core::TrainBackend;
use esmm_core::backend::HostAccess;

use super::summed::{FileSum, Summed, unreadable};

/// Bytes that go to or come from the file at once.
const CHUNK: usize = 1 << 20;
/// Bytes of a value.
const WIDTH: usize = size_of::<f32>();

/// A tensor of a module.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) id: ParamId,
    shape: Vec<usize>,
}

/// The tensors of a module, in the order in which it visits them.
pub(super) fn entries<B: Backend, M: Module<B>>(module: &M) -> Vec<Entry> {
    let mut names = Names { path: Vec::new(), entries: Vec::new() };
    module.visit(&mut names);
    names.entries
}

struct Names {
    path: Vec<String>,
    entries: Vec<Entry>,
}

impl<B: Backend> ModuleVisitor<B> for Names {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let shape = param.val().dims().to_vec();
        self.entries.push(Entry { name: self.path.join("."), id: param.id, shape });
    }

    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
}

/// Length and header.
fn header(entries: &[Entry]) -> Vec<u8> {
    let mut start = 0;
    let mut fields = serde_json::Map::new();
    for Entry { name, shape, .. } in entries {
        let end = start + shape.iter().product::<usize>() * WIDTH;
        let entry = serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, end] });
        fields.insert(name.clone(), entry);
        start = end;
    }
    let mut text = serde_json::Value::Object(fields).to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// Writes and syncs the tensors of a module.
///
/// # Errors
/// A disk that refuses.
pub(super) fn write<B, M: Module<B>>(path: &Path, module: &M) -> io::Result<FileSum>
where
    B: TrainBackend,
{
    let mut file = Summed::create(path)?;
    file.write_all(&header(&entries(module)))?;
    let mut writer = Writer { file, buffer: vec![0; CHUNK], result: Ok(()) };
    module.visit(&mut writer);
    writer.result?;
    writer.file.finish()
}

struct Writer {
    file: Summed,
    buffer: Vec<u8>,
    result: io::Result<()>,
}

impl Writer {
    fn put(&mut self, values: &[f32]) -> io::Result<()> {
        for chunk in values.chunks(CHUNK / WIDTH) {
            let bytes = &mut self.buffer[..chunk.len() * WIDTH];
            for (bytes, value) in bytes.as_chunks_mut::<WIDTH>().0.iter_mut().zip(chunk) {
                *bytes = value.to_le_bytes();
            }
            self.file.write_all(bytes)?;
        }
        Ok(())
    }
}

impl<B> ModuleVisitor<B> for Writer
where
    B: TrainBackend,
{
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if self.result.is_ok() {
            let tensor = primitive(param.val().inner());
            B::InnerBackend::with_values(tensor, &mut |values| self.result = self.put(values));
        }
    }
}

/// Reads the tensors of a module into it, in place. After an error some of them may be others.
///
/// # Errors
/// A file that cannot be read, is damaged or has other tensors.
pub(super) fn read<B, M: Module<B>>(path: &Path, sum: &FileSum, module: M) -> (M, Result<(), String>)
where
    B: TrainBackend,
{
    let file = match open(path, sum, &header(&entries(&module))) {
        Ok(file) => file,
        Err(reason) => return (module, Err(reason)),
    };
    let mut reader = Reader { file, buffer: vec![0; CHUNK], result: Ok(()) };
    let module = module.map(&mut reader);
    let Reader { file, result, .. } = reader;
    (module, result.map_err(unreadable).and_then(|()| file.verify(sum)))
}

/// Opens a file, its header read.
fn open(path: &Path, sum: &FileSum, header: &[u8]) -> Result<Summed, String> {
    let mut file = Summed::open(path, sum)?;
    let mut found = vec![0; header.len().min(sum.bytes as usize)];
    file.read_exact(&mut found).map_err(unreadable)?;
    match found == header {
        true => Ok(file),
        false => Err("is damaged, or of another model: its header lists other tensors".to_owned()),
    }
}

struct Reader {
    file: Summed,
    buffer: Vec<u8>,
    result: io::Result<()>,
}

impl Reader {
    fn fill(&mut self, values: &mut [f32]) -> io::Result<()> {
        for chunk in values.chunks_mut(CHUNK / WIDTH) {
            let bytes = &mut self.buffer[..chunk.len() * WIDTH];
            self.file.read_exact(bytes)?;
            for (bytes, value) in bytes.as_chunks::<WIDTH>().0.iter().zip(chunk) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        Ok(())
    }
}

impl<B> ModuleMapper<B> for Reader
where
    B: TrainBackend,
{
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (id, tensor, mapper) = param.consume();
        if self.result.is_err() {
            return Param::from_mapped_value(id, tensor, mapper);
        }
        let needs_grad = tensor.is_require_grad();
        let filled = B::InnerBackend::fill_values(primitive(tensor.inner()), &mut |values| {
            self.result = self.fill(values);
        });
        let filled = Tensor::from_primitive(TensorPrimitive::Float(filled));
        let tensor = Tensor::from_inner(filled).set_require_grad(needs_grad);
        Param::from_mapped_value(id, tensor, mapper)
    }
}

fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

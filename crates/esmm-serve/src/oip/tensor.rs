//! Tensors of the protocol, and Arrow columns made of them.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
    StringArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use serde_json::Value;

/// A tensor of a request, its values as a column.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<i64>,
    pub(crate) values: ArrayRef,
}

/// The type of a tensor's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataType {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp32,
    Fp64,
    Bytes,
}

impl DataType {
    pub(crate) const ALL: [Self; 12] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    pub(crate) fn parse(input: &str, name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|kind| kind.name()).collect();
            format!("input `{input}`: datatype `{name}`, allowed are {}", names.join(", "))
        })
    }

    /// Values as they lie in a binary tensor, little endian; texts have their length before them.
    pub(crate) fn read(self, input: &str, bytes: &[u8]) -> Result<ArrayRef, String> {
        fn cut<const N: usize>(input: &str, bytes: &[u8]) -> Result<Vec<[u8; N]>, String> {
            let (values, rest) = bytes.as_chunks::<N>();
            match rest.is_empty() {
                true => Ok(values.to_vec()),
                false => {
                    Err(format!("input `{input}`: {} bytes are no whole values of {N} bytes", bytes.len()))
                }
            }
        }
        macro_rules! numbers {
            ($array:ident, $kind:ident) => {{
                let values = cut(input, bytes)?.into_iter().map($kind::from_le_bytes);
                Arc::new($array::from_iter_values(values))
            }};
        }
        Ok(match self {
            Self::Bool => {
                Arc::new(BooleanArray::from(bytes.iter().map(|byte| *byte != 0).collect::<Vec<_>>()))
            }
            Self::Uint8 => numbers!(UInt8Array, u8),
            Self::Uint16 => numbers!(UInt16Array, u16),
            Self::Uint32 => numbers!(UInt32Array, u32),
            Self::Uint64 => numbers!(UInt64Array, u64),
            Self::Int8 => numbers!(Int8Array, i8),
            Self::Int16 => numbers!(Int16Array, i16),
            Self::Int32 => numbers!(Int32Array, i32),
            Self::Int64 => numbers!(Int64Array, i64),
            Self::Fp32 => numbers!(Float32Array, f32),
            Self::Fp64 => numbers!(Float64Array, f64),
            Self::Bytes => Arc::new(texts(input, bytes)?),
        })
    }

    /// Values as JSON has them, lists of lists written flat.
    pub(crate) fn read_json(self, input: &str, data: &Value) -> Result<ArrayRef, String> {
        let mut values = Vec::new();
        flatten(data, &mut values);
        fn all<T>(
            input: &str,
            kind: DataType,
            values: &[&Value],
            read: impl Fn(&Value) -> Option<T>,
        ) -> Result<Vec<T>, String> {
            let value = |value: &&Value| {
                read(value).ok_or_else(|| format!("input `{input}`: {value} is no {}", kind.name()))
            };
            values.iter().map(value).collect()
        }
        fn whole<T: TryFrom<i64>>(value: &Value) -> Option<T> {
            value.as_i64().and_then(|number| T::try_from(number).ok())
        }
        let float = |value: &Value| value.as_f64();
        Ok(match self {
            Self::Bool => Arc::new(BooleanArray::from(all(input, self, &values, Value::as_bool)?)),
            Self::Uint8 => Arc::new(UInt8Array::from(all(input, self, &values, whole::<u8>)?)),
            Self::Uint16 => Arc::new(UInt16Array::from(all(input, self, &values, whole::<u16>)?)),
            Self::Uint32 => Arc::new(UInt32Array::from(all(input, self, &values, whole::<u32>)?)),
            Self::Uint64 => Arc::new(UInt64Array::from(all(input, self, &values, Value::as_u64)?)),
            Self::Int8 => Arc::new(Int8Array::from(all(input, self, &values, whole::<i8>)?)),
            Self::Int16 => Arc::new(Int16Array::from(all(input, self, &values, whole::<i16>)?)),
            Self::Int32 => Arc::new(Int32Array::from(all(input, self, &values, whole::<i32>)?)),
            Self::Int64 => Arc::new(Int64Array::from(all(input, self, &values, Value::as_i64)?)),
            Self::Fp32 => {
                let values = all(input, self, &values, float)?;
                Arc::new(Float32Array::from_iter_values(values.into_iter().map(|value| value as f32)))
            }
            Self::Fp64 => Arc::new(Float64Array::from(all(input, self, &values, float)?)),
            Self::Bytes => {
                let text = |value: &Value| value.as_str().map(str::to_owned);
                Arc::new(StringArray::from(all(input, self, &values, text)?))
            }
        })
    }
}

fn flatten<'a>(data: &'a Value, values: &mut Vec<&'a Value>) {
    match data {
        Value::Array(items) => items.iter().for_each(|item| flatten(item, values)),
        other => values.push(other),
    }
}

fn texts(input: &str, mut bytes: &[u8]) -> Result<StringArray, String> {
    let mut texts = Vec::new();
    while !bytes.is_empty() {
        let cut = || format!("input `{input}`: text number {} is cut off", texts.len());
        let (len, rest) = bytes.split_at_checked(4).ok_or_else(cut)?;
        let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize;
        let (text, rest) = rest.split_at_checked(len).ok_or_else(cut)?;
        let text = std::str::from_utf8(text)
            .map_err(|_| format!("input `{input}`: text number {} is not UTF-8", texts.len()))?;
        texts.push(text);
        bytes = rest;
    }
    Ok(StringArray::from(texts))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use serde_json::json;

    use super::*;

    #[test]
    fn every_type_reads_the_same_from_bytes_and_from_json() {
        for kind in DataType::ALL {
            assert_eq!(DataType::parse("x", kind.name()), Ok(kind));
            let (bytes, data) = match kind {
                DataType::Bool => (vec![1, 0], json!([true, false])),
                DataType::Uint8 | DataType::Int8 => (vec![1, 2], json!([[1], [2]])),
                DataType::Uint16 | DataType::Int16 => (vec![1, 0, 2, 0], json!([1, 2])),
                DataType::Uint32 | DataType::Int32 => (vec![1, 0, 0, 0, 2, 0, 0, 0], json!([1, 2])),
                DataType::Uint64 | DataType::Int64 => {
                    ([1_u64, 2].map(u64::to_le_bytes).concat(), json!([1, 2]))
                }
                DataType::Fp32 => ([0.5_f32, 2.0].map(f32::to_le_bytes).concat(), json!([0.5, 2])),
                DataType::Fp64 => ([0.5_f64, 2.0].map(f64::to_le_bytes).concat(), json!([0.5, 2])),
                DataType::Bytes => (b"\x01\0\0\0a\0\0\0\0".to_vec(), json!(["a", ""])),
            };
            let (read, from_json) = (kind.read("x", &bytes).unwrap(), kind.read_json("x", &data).unwrap());
            assert_eq!(&read, &from_json, "{kind:?}");
            assert_eq!(read.len(), 2, "{kind:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        assert!(DataType::Int64.read("n", &[1, 2, 3]).unwrap_err().contains("`n`: 3 bytes"));
        assert!(DataType::Bytes.read("t", b"\x09\0\0\0a").unwrap_err().contains("cut off"));
        assert!(DataType::Bytes.read("t", b"\x01\0\0\0\xff").unwrap_err().contains("UTF-8"));
        assert!(DataType::Int8.read_json("n", &json!([300])).unwrap_err().contains("300 is no INT8"));
        assert!(DataType::parse("n", "FP16").unwrap_err().contains("`FP16`, allowed are BOOL"));
        let text = DataType::Bytes.read_json("t", &json!(["a"])).unwrap();
        assert_eq!(text.as_string::<i32>().value(0), "a");
    }
}

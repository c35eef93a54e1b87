//! Uploads of several lines of values in one piece: each upload costs the thread that trains as much as several launches.

use burn::tensor::{Bytes, DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;

use super::tensor::OnCube;
use crate::backend::{DeviceLine, HostLine};

/// Bytes that lines begin at multiples of, unless the device asks for more.
const ALIGNMENT: usize = 256;

/// Where a line lies in the piece.
struct Place {
    start: usize,
    end: usize,
    shape: Shape,
    dtype: DType,
}

/// See [`HostAccess::upload`](crate::backend::HostAccess::upload).
pub(super) fn upload<R: CubeRuntime, B: OnCube<R>>(
    lines: Vec<HostLine>,
    device: &R::CubeDevice,
) -> Vec<DeviceLine<B>> {
    let client = R::client(device);
    let alignment = (client.properties().memory.alignment as usize).max(ALIGNMENT);
    let mut bytes = Vec::with_capacity(lines.iter().map(|line| num_bytes(line) + alignment).sum());
    let places: Vec<Place> = lines.iter().map(|line| place(line, &mut bytes, alignment)).collect();
    let total = bytes.len();
    let handle = client.create(Bytes::from_bytes_vec(bytes));
    let on_device = |Place { start, end, shape, dtype }| {
        let handle = handle.clone().offset_start(start as u64).offset_end((total - end) as u64);
        let tensor = CubeTensor::new_contiguous(client.clone(), device.clone(), shape, handle, dtype);
        if dtype == DType::F32 { DeviceLine::Floats(tensor) } else { DeviceLine::Ints(tensor) }
    };
    places.into_iter().map(on_device).collect()
}

fn num_bytes(line: &HostLine) -> usize {
    match line {
        HostLine::Matrix { values, .. } | HostLine::Floats(values) => size_of_val(values.as_slice()),
        HostLine::Ints(values) => size_of_val(values.as_slice()),
    }
}

/// Appends a line.
fn place(line: &HostLine, bytes: &mut Vec<u8>, alignment: usize) -> Place {
    let start = bytes.len();
    let (shape, dtype) = match line {
        HostLine::Matrix { values, columns } => {
            bytes.extend_from_slice(bytemuck::cast_slice(values.as_slice()));
            (vec![values.len() / columns, *columns], DType::F32)
        }
        HostLine::Floats(values) => {
            bytes.extend_from_slice(bytemuck::cast_slice(values.as_slice()));
            (vec![values.len()], DType::F32)
        }
        HostLine::Ints(values) => {
            bytes.extend_from_slice(bytemuck::cast_slice(values.as_slice()));
            (vec![values.len()], DType::I32)
        }
    };
    let end = bytes.len();
    bytes.resize(end.next_multiple_of(alignment), 0);
    Place { start, end, shape: Shape::from(shape), dtype }
}

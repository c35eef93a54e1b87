//! Uploads of several lines of values in one piece: each upload costs the thread that trains as much as several launches.

use burn::tensor::{Bytes, DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;

use super::tensor::OnCube;
use crate::backend::{DeviceLine, HostLine, PackedLines};

/// Bytes that lines begin at multiples of, unless the device asks for more.
const ALIGNMENT: usize = 256;

/// See [`HostAccess::upload`](crate::backend::HostAccess::upload).
pub(super) fn upload<R: CubeRuntime, B: OnCube<R>>(
    lines: Vec<HostLine>,
    device: &R::CubeDevice,
) -> Vec<DeviceLine<B>> {
    let client = R::client(device);
    let alignment = (client.properties().memory.alignment as usize).max(ALIGNMENT);
    let PackedLines { words, places } = PackedLines::new(&lines, alignment);
    let bytes = Bytes::from_elems(words);
    let total = bytes.len();
    let handle = client.create(bytes);
    let on_device = |(line, place): (&HostLine, std::ops::Range<usize>)| {
        let after = (total - place.end) as u64;
        let handle = handle.clone().offset_start(place.start as u64).offset_end(after);
        let tensor = |shape: Vec<usize>, dtype| {
            CubeTensor::new_contiguous(client.clone(), device.clone(), Shape::from(shape), handle, dtype)
        };
        match line {
            HostLine::Matrix { values, columns } => {
                DeviceLine::Floats(tensor(vec![values.len() / columns, *columns], DType::F32))
            }
            HostLine::Floats(values) => DeviceLine::Floats(tensor(vec![values.len()], DType::F32)),
            HostLine::Ints(values) => DeviceLine::Ints(tensor(vec![values.len()], DType::I32)),
        }
    };
    lines.iter().zip(places).map(on_device).collect()
}

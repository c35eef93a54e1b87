//! `esmm devices`

use esmm_core::Precision;
use esmm_train::{Device, DeviceInfo, DeviceName, TrainError};

use super::stdout::outln;

/// Lists on stdout what `--device` takes here, one a line, after each has computed something; why a backend has no device, or a
/// device does not compute, on its line.
pub(super) fn run() -> anyhow::Result<()> {
    for backend in DeviceName::available() {
        match backend.devices {
            Ok(devices) => {
                for info in &devices {
                    let computes = info.name.open().and_then(|device| device.check_computes());
                    let failed = computes.err().map_or_else(String::new, |error| format!("; {error}"));
                    line(&info.name.to_string(), &format!("{}{failed}", described(info)))?;
                }
            }
            Err(reason) => line(backend.backend, &format!("none: {reason}"))?,
        }
    }
    line("default", &Device::preferred()?.to_string())?;
    Ok(())
}

fn line(name: &str, text: &str) -> Result<(), TrainError> {
    outln!("{name:<10}{text}")
}

fn described(info: &DeviceInfo) -> String {
    let tables = info.largest_tensor.map(|bytes| format!("; tables of up to {} MiB", bytes >> 20));
    let precisions = Precision::list(&info.precisions);
    format!("{}; {precisions}{}", info.description, tables.unwrap_or_default())
}

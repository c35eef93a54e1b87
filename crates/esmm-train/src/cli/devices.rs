//! `esmm devices`

use esmm_core::Precision;
use esmm_train::{Device, DeviceInfo, DeviceName, TrainError};

use super::stdout::outln;

/// Lists on stdout what `--device` takes here, one a line; why a backend has no device, on its line.
pub(super) fn run() -> anyhow::Result<()> {
    for backend in DeviceName::available() {
        match backend.devices {
            Ok(devices) => {
                devices.iter().try_for_each(|info| line(&info.name.to_string(), &described(info)))?;
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

// Looked for by the check of a device; nothing is needed of it.

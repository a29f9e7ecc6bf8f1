"""From a file's bytes to slices with their raw stored values, by the reader of its format."""

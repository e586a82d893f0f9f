"""HTTP/1.1 as bytes: heads, framing, header rules. Bytes in, values out; no I/O."""

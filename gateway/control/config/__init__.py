"""The config file: read, parsed, checked, and read again when it changes.

`loading` is the one way from a file to a `Config`; `document` is the YAML below it, `diagnosis`,
`crosscheck` and `cautions` find what is wrong or odd, `problems` says where it stands. `reload`
watches the files. The grammar itself, key by key, is `gateway.model.config`.
"""

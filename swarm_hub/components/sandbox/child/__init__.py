"""The sandbox's child process: a package of its own that imports only itself and wasmtime."""

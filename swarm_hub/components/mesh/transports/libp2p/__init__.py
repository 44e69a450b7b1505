"""The transport between devices: libp2p, run by trio in a thread of its own."""

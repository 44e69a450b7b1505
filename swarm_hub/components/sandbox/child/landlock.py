"""The part of the fence that closes the file system, TCP and signals: Landlock."""

import ctypes
import os
import struct

from .libc import LIBC, check

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_GET_VERSION = 1
_RULE_PATH_BENEATH = 1

# The rights on files by the version of Landlock that brought them.
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_FILE_RIGHTS = ((1, (1 << 13) - 1), (2, _REFER), (3, _TRUNCATE), (5, 1 << 15))
_NETWORK_RIGHTS = 0b11  # bind and connect of TCP
_SCOPES = 0b11  # abstract unix sockets and signals
_NETWORK_FROM, _SCOPES_FROM = 4, 6

# A private directory may hold files and directories, nothing that runs and no devices.
_PRIVATE_RIGHTS = (
    _WRITE_FILE | _READ_FILE | _READ_DIR | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG
    | _REFER | _TRUNCATE
)  # fmt: skip


def restrict(private: str | None) -> str:
    """Close everything but this directory for the calling thread; returns what is closed.

    Raises OSError if the kernel has no Landlock or does not allow it.
    """
    version = check(LIBC.syscall(_CREATE, None, 0, _GET_VERSION))
    files = sum(rights for since, rights in _FILE_RIGHTS if since <= version)
    network = _NETWORK_RIGHTS if version >= _NETWORK_FROM else 0
    scopes = _SCOPES if version >= _SCOPES_FROM else 0
    # An older kernel takes a longer structure if the rest is zero.
    attributes = struct.pack("=QQQ", files, network, scopes)
    ruleset = check(LIBC.syscall(_CREATE, attributes, len(attributes), 0))
    try:
        if private is not None:
            _allow(ruleset, private, files & _PRIVATE_RIGHTS)
        check(LIBC.syscall(_RESTRICT, ruleset, 0))
    finally:
        os.close(ruleset)
    closed = ("files", "TCP" if network else "", "signals" if scopes else "")
    return ", ".join(part for part in closed if part)


def _allow(ruleset: int, directory: str, rights: int) -> None:
    opened = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, opened))
        check(LIBC.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0))
    finally:
        os.close(opened)

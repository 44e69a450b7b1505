"""What the sections of a configuration are, read from their schemas: for docs, editors, commands.

A hub never imports it. What a schema does not know, such as what a key is for, is in the file
`keys.yaml` beside the component.
"""

from swarm_hub.reference.sections import (
    NO_DEFAULT,
    DescribedKey,
    DescribedPlatform,
    DescribedSection,
    core_sections,
    section_of,
)

__all__ = [
    "NO_DEFAULT",
    "DescribedKey",
    "DescribedPlatform",
    "DescribedSection",
    "core_sections",
    "section_of",
]

"""Terraform's provider: from the registry, or where that can't be reached from a mirror on this machine."""

from pathlib import Path

REGISTRY = "registry.terraform.io"
CACHE = Path(__file__).parent.parent / ".terraform_cache"  # a provider is fetched once


def mirror() -> Path | None:
    """Return the folder of a provider mirror that is a few levels below the root, if there is one."""
    for depth in range(1, 5):
        for found in sorted(Path("/").glob("/".join([*"*" * depth, REGISTRY]))):
            if found.is_dir() and found.parts[1] not in {"proc", "sys"}:
                return found.parent
    return None


def use_mirror(configuration: Path) -> bool:
    """Write a configuration of Terraform that takes providers from a mirror, if there is one."""
    folder = mirror()
    if folder is not None:
        configuration.write_text(
            f'provider_installation {{\n  filesystem_mirror {{\n    path = "{folder}"\n  }}\n}}\n'
        )
    return folder is not None

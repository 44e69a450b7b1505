"""Names and numbers that several packages share."""

from typing import Final

__version__: Final = "0.1.0"

CONFIG_FILE: Final = "configuration.yaml"
SECRETS_FILE: Final = "secrets.yaml"
STORAGE_DIR: Final = ".storage"
CUSTOM_COMPONENTS_DIR: Final = "custom_components"
LAST_GOOD_FILE: Final = "last_good.json"
LOCK_FILE: Final = ".storage/hub.lock"
CONTROL_SOCKET: Final = ".storage/control.sock"
BACKUP_LOCK_FILE: Final = ".storage/backup.lock"
PAUSE_FILE: Final = "pause.json"
DAILY_DATA_FILE: Final = "daily_data.json"
DATABASE_MADE_FILE: Final = ".storage/database.made"
RESTORE_FILE: Final = ".storage/restore.json"
IDENTITY_KEY_FILE: Final = "identity.key"
SIGNER_KEY_FILE: Final = "signer.key"
ADMIN_TOKEN_FILE: Final = "admin.token"
TOKENS_FILE: Final = "tokens.json"
AUDIT_FILE: Final = "audit.log"
API_SOCKET: Final = ".storage/api.sock"
TLS_KEY_FILE: Final = "tls.key"
TLS_CERTIFICATE_FILE: Final = "tls.crt"
ROTATIONS_FILE: Final = "signer.rotations.json"
REPAIRS_FILE: Final = "repairs.json"
REVOKED_FILE: Final = "revoked_keys.json"
JOIN_TOKENS_FILE: Final = "join_tokens.json"

# All paths of the REST API begin with it; its number changes with whatever clients must not ignore.
API_ROOT: Final = "/api/v1"
WEBSOCKET_PATH: Final = "/api/websocket"
# The code of refusals by a gateway that does not reach its store; another one may.
STORE_AWAY: Final = "store_away"
DEFAULT_API_PORT: Final = 8470
DEFAULT_URL: Final = f"http://127.0.0.1:{DEFAULT_API_PORT}"
# Where commands and the Python client find a hub.
DEFAULT_DIR: Final = "~/.config/swarm_hub"
CONFIG_VARIABLE: Final = "SWARM_HUB_CONFIG"
URL_VARIABLE: Final = "SWARM_HUB_URL"
TOKEN_VARIABLE: Final = "SWARM_HUB_TOKEN"

# Bodies up to this size live in their database row; larger ones are blob files.
INLINE_MAX_BYTES: Final = 64 * 1024
# What editors complete and check `configuration.yaml` with.
SCHEMA_FILE: Final = "configuration.schema.json"
# What a device may be called.
NAME_MAX_CHARS: Final = 64

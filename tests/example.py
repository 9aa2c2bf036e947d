"""What an operator puts into config.example.toml: with it, commands take the example for a configuration."""

from typing import Final

CREDENTIALS: Final = {
    "DATABASE__DSN": "postgresql://u@127.0.0.1:1/erp",
    "CHANNELS__SEKORM__ACCOUNT": "SP-1",
    "CHANNELS__SEKORM__APP_SECRET": "secret-of-sekorm",
    "CHANNELS__YMATOU__APP_ID": "app-1",
    "CHANNELS__YMATOU__APP_SECRET": "secret-of-ymatou",
    "CHANNELS__YMATOU__AUTH_CODE": "code-of-ymatou",
}
VARIABLES: Final = {f"STOCKRELAY_{name}": value for name, value in CREDENTIALS.items()}

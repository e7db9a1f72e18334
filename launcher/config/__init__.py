"""Config: types (`schema`), where files are found (`search`), composition (`compose`) and rules (`validate`)."""

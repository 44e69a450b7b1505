"""The strategies, each chosen by `platform:`; pure functions of what they are given."""

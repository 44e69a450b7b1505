PLATFORM_SCHEMA = {}
raise RuntimeError("no luck")

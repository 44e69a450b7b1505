"""The psutil of its index as it is on Android."""

raise NotImplementedError("platform android is not supported")

"""The endpoints of the Marketing API, one module per noun; `router` finds the handler of a call."""

"""The checks of ``mcsync doctor``, by what they are about: the servers, the work, the organisations."""

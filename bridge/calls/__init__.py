"""Which calls the PBX has, and how a media leg is opened on one."""

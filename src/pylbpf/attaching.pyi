# Only for other rooms.

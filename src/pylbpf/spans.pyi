# Only for other rooms, by cimport.

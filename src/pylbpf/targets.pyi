# Only for other rooms, by cimport.

@final
class Functions: ...

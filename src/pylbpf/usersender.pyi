from typing import final

@final
class UserSender: ...

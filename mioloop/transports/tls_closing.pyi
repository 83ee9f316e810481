WANTS_MORE: tuple[type[Exception], ...]

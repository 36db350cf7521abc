"""Small programs that run inside the lab, as files: they import nothing but the library."""

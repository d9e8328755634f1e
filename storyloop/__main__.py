"""python -m storyloop."""

from storyloop import main

main()

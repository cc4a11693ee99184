"""Install pinned packages into the environment whose Python runs this: `python -m scripts.install REQUIREMENTS`.

Chooses the build of torch that fits the machine, says first what it downloads and how much disk that takes, refuses
where there is too little, and checks what was installed. Uses the standard library only: nothing else is there yet.
"""

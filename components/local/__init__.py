"""The platform `local`: an estate as processes of one machine."""

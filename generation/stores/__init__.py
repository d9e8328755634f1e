"""Where finished policies, frozen pairs, exports and uploads lie when machines share no folder (docs/adr/0017).

Without STORYLOOP_MODEL_STORE nothing here does anything: the folders of this installation are the store.
"""

"""The pytest plug-in of rivers-core; pytest loads it by its entry point, and it imports no rivers by itself."""

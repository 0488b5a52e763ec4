"""The page and the Node scripts that a web export takes along, and what they stand on."""

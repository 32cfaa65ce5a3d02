"""What is wrong with the datasets in `data/`: measured, judged, proposed and shown.

measuring     a photo's size, sharpness, brightness, colour and perceptual hash
tables        the merged manifests and what is counted on them
rules         what is asked of photos, identities and sets
expectations  these rules, and a user's own, as suites of Great Expectations
judging       a verdict for every row
copies        which photos are near copies of each other
cleaning      what a person decided; proposals: what a person may decide
drift         what changed against the previous version
troubles, thumbnails, data_docs   the pages
validate      the order of things
"""

"""A registry: distribution-spec 1.1 over HTTP. What it keeps is behind `store.Store`; `app.make` is the way in.

app.py       which request is whose; authentication; errors as JSON
blobs.py     blobs and uploads            manifests.py  manifests, tags, referrers, the catalog
htpasswd.py  who may come in              store.py      what is needed of the outside
"""

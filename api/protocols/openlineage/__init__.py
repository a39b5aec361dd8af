"""OpenLineage 2: what runs read and made goes out as its events, and what other systems tell comes in. https://openlineage.io/spec"""

-- Whether scripts run here: the version of the layout, empty when none is registered.
-- KEYS: meta
return redis.call('HGET', KEYS[1], 'layout') or ''

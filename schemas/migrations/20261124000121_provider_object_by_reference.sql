-- Call-backs name a payment by our reference; the provider's own name for it saves a search of the provider's lists.
create index provider_object_by_reference on process.provider_object (account, reference);

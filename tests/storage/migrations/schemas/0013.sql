-- A store of schema 0013 as swarm_hub 0.1.0 wrote it, with a finished and a running job.
PRAGMA auto_vacuum=INCREMENTAL;
PRAGMA user_version=13;
BEGIN TRANSACTION;
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num));
INSERT INTO "alembic_version" VALUES('0013');
CREATE TABLE assignments (
	job_id TEXT NOT NULL, 
	idx INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	node_id TEXT NOT NULL, 
	state TEXT NOT NULL, 
	reason TEXT, 
	offered_at REAL NOT NULL, 
	ended_at REAL, 
	PRIMARY KEY (job_id, idx, attempt)
)
 WITHOUT ROWID,
 STRICT

;
INSERT INTO "assignments" VALUES('01KAXXXXXXXXXXXXXXXXXXXXX1',0,1,'12D3KooWNode','finished',NULL,1764000001.0,1764000002.0);
INSERT INTO "assignments" VALUES('01KAXXXXXXXXXXXXXXXXXXXXX2',0,1,'12D3KooWNode','offered',NULL,1764000001.0,NULL);
CREATE TABLE automation_reader (
	name TEXT NOT NULL, 
	gateway TEXT NOT NULL, 
	seq INTEGER NOT NULL, 
	PRIMARY KEY (name)
)
 WITHOUT ROWID,
 STRICT

;
CREATE TABLE automation_runs (
	automation TEXT NOT NULL, 
	id TEXT NOT NULL, 
	state TEXT NOT NULL, 
	created_at REAL NOT NULL, 
	next_at REAL NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (automation, id)
)
 STRICT

;
CREATE TABLE automations (
	id TEXT NOT NULL, 
	enabled INTEGER DEFAULT 1 NOT NULL, 
	memory TEXT NOT NULL, 
	PRIMARY KEY (id)
)
 STRICT

;
CREATE TABLE banned_networks (
	cidr TEXT NOT NULL, 
	banned_at REAL NOT NULL, 
	reason TEXT NOT NULL, 
	until REAL, 
	PRIMARY KEY (cidr)
)
 WITHOUT ROWID,
 STRICT

;
CREATE TABLE blob_chunks (
	sha TEXT NOT NULL, 
	n INTEGER NOT NULL, 
	put_at REAL NOT NULL, 
	body BLOB NOT NULL, 
	PRIMARY KEY (sha, n)
)
 WITHOUT ROWID,
 STRICT

;
CREATE TABLE blobs (
	sha TEXT NOT NULL, 
	size_bytes INTEGER NOT NULL, 
	body BLOB, 
	last_ref REAL NOT NULL, 
	PRIMARY KEY (sha)
)
 STRICT

;
INSERT INTO "blobs" VALUES('93a44bbb96c751218e4c00d479e4c14358122a389acca16205b1e4d0dc5f9476',8,X'0061736D01000000',1764000000.0);
INSERT INTO "blobs" VALUES('98fcfada63dd9f0c7cc6b83cf5d5f1cf643567340fb66d869487dd2dd9d60d98',6,X'30203130300A',1764000000.0);
CREATE TABLE events (
	seq INTEGER NOT NULL, 
	event_type TEXT NOT NULL, 
	job_id TEXT, 
	time_fired REAL NOT NULL, 
	data TEXT NOT NULL, 
	PRIMARY KEY (seq)
)
 STRICT

;
INSERT INTO "events" VALUES(1,'job_queued','01KAXXXXXXXXXXXXXXXXXXXXX1',1764000000.0,'{"job_id":"01KAXXXXXXXXXXXXXXXXXXXXX1","n_items":100}');
INSERT INTO "events" VALUES(2,'job_running','01KAXXXXXXXXXXXXXXXXXXXXX1',1764000000.0,'{"job_id":"01KAXXXXXXXXXXXXXXXXXXXXX1"}');
INSERT INTO "events" VALUES(3,'shard_assigned','01KAXXXXXXXXXXXXXXXXXXXXX1',1764000000.0,'{"job_id":"01KAXXXXXXXXXXXXXXXXXXXXX1","index":0,"attempt":1,"node_id":"12D3KooWNode","n_items":60}');
INSERT INTO "events" VALUES(4,'job_queued','01KAXXXXXXXXXXXXXXXXXXXXX2',1764000000.0,'{"job_id":"01KAXXXXXXXXXXXXXXXXXXXXX2","n_items":100}');
INSERT INTO "events" VALUES(5,'job_running','01KAXXXXXXXXXXXXXXXXXXXXX2',1764000000.0,'{"job_id":"01KAXXXXXXXXXXXXXXXXXXXXX2"}');
INSERT INTO "events" VALUES(6,'shard_assigned','01KAXXXXXXXXXXXXXXXXXXXXX2',1764000000.0,'{"job_id":"01KAXXXXXXXXXXXXXXXXXXXXX2","index":0,"attempt":1,"node_id":"12D3KooWNode","n_items":60}');
INSERT INTO "events" VALUES(7,'shard_done','01KAXXXXXXXXXXXXXXXXXXXXX1',1764000000.0,'{"job_id":"01KAXXXXXXXXXXXXXXXXXXXXX1","index":0,"node_id":"12D3KooWNode","n_items":60,"wall_s":0.01}');
INSERT INTO "events" VALUES(8,'job_completed','01KAXXXXXXXXXXXXXXXXXXXXX1',1764000000.0,'{"job_id":"01KAXXXXXXXXXXXXXXXXXXXXX1","shards":1,"retries":0,"failures":[]}');
CREATE TABLE gateways (
	name TEXT NOT NULL, 
	epoch INTEGER NOT NULL, 
	alive_until REAL NOT NULL, 
	PRIMARY KEY (name)
)
 WITHOUT ROWID,
 STRICT

;
CREATE TABLE inbox (
	assignment_id TEXT NOT NULL, 
	gateway TEXT NOT NULL, 
	call TEXT NOT NULL, 
	input_sha TEXT NOT NULL, 
	size_bytes INTEGER NOT NULL, 
	input BLOB, 
	state TEXT NOT NULL, 
	received_at REAL NOT NULL, 
	store_id TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY (assignment_id)
)
 STRICT

;
INSERT INTO "inbox" VALUES('01KAOTHER.1.1','12D3KooWGateway','{}','2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881',1,X'78','accepted',1764000000.0,'');
CREATE TABLE invites (
	token_sha TEXT NOT NULL, 
	created_at REAL NOT NULL, 
	expires_at REAL NOT NULL, 
	used_at REAL, 
	used_by TEXT, 
	owner TEXT, 
	PRIMARY KEY (token_sha)
)
 WITHOUT ROWID,
 STRICT

;
CREATE TABLE jobs (
	id TEXT NOT NULL, 
	state TEXT NOT NULL, 
	gateway TEXT NOT NULL, 
	epoch INTEGER NOT NULL, 
	idem_key TEXT, 
	idem_sha TEXT, 
	owner TEXT NOT NULL, 
	spec TEXT NOT NULL, 
	module_sha TEXT NOT NULL, 
	module_bytes INTEGER NOT NULL, 
	dataset_sha TEXT NOT NULL, 
	dataset_bytes INTEGER NOT NULL, 
	n_items INTEGER NOT NULL, 
	range_start INTEGER NOT NULL, 
	created_at REAL NOT NULL, 
	started_at REAL, 
	finished_at REAL, 
	read_at REAL, 
	failures TEXT, 
	result_sha TEXT, 
	result_bytes INTEGER, 
	result_inline BLOB, 
	n_shards INTEGER NOT NULL, 
	n_retries INTEGER NOT NULL, 
	cancel_asked INTEGER DEFAULT 0 NOT NULL, 
	script_sha TEXT, 
	n_done_items INTEGER DEFAULT 0 NOT NULL, 
	n_done_shards INTEGER DEFAULT 0 NOT NULL, 
	n_failed_items INTEGER DEFAULT 0 NOT NULL, 
	parts_sha TEXT, change_asked TEXT, 
	PRIMARY KEY (id)
)
 STRICT

;
INSERT INTO "jobs" VALUES('01KAXXXXXXXXXXXXXXXXXXXXX1','completed','12D3KooWGateway',1,'key-a','digest','t','{"abi":"range","entry":"map","split":"range","record_bytes":0,"reduce":"sum","shard_size":null,"redundancy":1,"deterministic":false,"limits":{"fuel":null,"memory":null,"wall_time":null,"output":null},"args":[],"env":[],"priority":0,"labels":[["team","a"]]}','93a44bbb96c751218e4c00d479e4c14358122a389acca16205b1e4d0dc5f9476',8,'98fcfada63dd9f0c7cc6b83cf5d5f1cf643567340fb66d869487dd2dd9d60d98',6,100,0,1764000000.0,1764000001.0,1764000002.0,NULL,'[]','753f5d07dca28b828839860b6b691eab72f41a9cc3d9cb176ef35355207494a0',4,X'31373730',1,0,0,NULL,60,1,0,NULL,NULL);
INSERT INTO "jobs" VALUES('01KAXXXXXXXXXXXXXXXXXXXXX2','running','12D3KooWGateway',1,NULL,'','t','{"abi":"range","entry":"map","split":"range","record_bytes":0,"reduce":"sum","shard_size":null,"redundancy":1,"deterministic":false,"limits":{"fuel":null,"memory":null,"wall_time":null,"output":null},"args":[],"env":[],"priority":0,"labels":[["team","a"]]}','93a44bbb96c751218e4c00d479e4c14358122a389acca16205b1e4d0dc5f9476',8,'98fcfada63dd9f0c7cc6b83cf5d5f1cf643567340fb66d869487dd2dd9d60d98',6,100,0,1764000000.0,1764000001.0,NULL,NULL,NULL,NULL,NULL,NULL,0,0,0,NULL,0,0,0,NULL,NULL);
CREATE TABLE key_rotations (
	kid TEXT NOT NULL, 
	statement BLOB NOT NULL, 
	signature BLOB NOT NULL, 
	PRIMARY KEY (kid)
)
 WITHOUT ROWID,
 STRICT

;
CREATE TABLE meta (
	"key" TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
)
 STRICT

;
INSERT INTO "meta" VALUES('db_id','01M87VXV5QWJACZX4G15EK5F63');
INSERT INTO "meta" VALUES('secret','55a67ef2776154084d04de9b8fd694285ecccbe280d3e9edb304992c6e2a6f82');
CREATE TABLE nodes (
	peer_id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	kid TEXT, 
	public_key BLOB, 
	first_seen REAL NOT NULL, 
	last_seen REAL NOT NULL, 
	banned_at REAL, 
	ban_reason TEXT, 
	ban_until REAL, 
	admission TEXT, 
	drain_reason TEXT, 
	agreements INTEGER DEFAULT 0 NOT NULL, 
	contradictions INTEGER DEFAULT 0 NOT NULL, 
	owner TEXT, 
	speeds TEXT, labels TEXT, 
	PRIMARY KEY (peer_id)
)
 STRICT

;
INSERT INTO "nodes" VALUES('12D3KooWNode','node','0123456789abcdef',X'6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B',1764000000.0,1764000000.0,NULL,NULL,NULL,'approved',NULL,0,0,NULL,NULL,NULL);
CREATE TABLE outbox (
	assignment_id TEXT NOT NULL, 
	gateway TEXT NOT NULL, 
	code TEXT NOT NULL, 
	text TEXT NOT NULL, 
	input_sha TEXT NOT NULL, 
	sha TEXT NOT NULL, 
	size_bytes INTEGER NOT NULL, 
	body BLOB, 
	wall_s REAL NOT NULL, 
	cpu_s REAL NOT NULL, 
	created_at REAL NOT NULL, 
	store_id TEXT DEFAULT '' NOT NULL, 
	peak_memory_bytes INTEGER, 
	fuel INTEGER, 
	call_sha TEXT, 
	PRIMARY KEY (assignment_id)
)
 STRICT

;
INSERT INTO "outbox" VALUES('01KAOTHER.2.1','12D3KooWGateway','ok','','2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881','a1fce4363854ff888cff4b8e7875d600c2682390412a8cf79b37d0b11148b0fa',1,X'79',0.1,0.1,1764000001.0,'',NULL,NULL,NULL);
CREATE TABLE receipts (
	job_id TEXT NOT NULL, 
	sha TEXT NOT NULL, 
	node_id TEXT NOT NULL, 
	kid TEXT NOT NULL, 
	public_key BLOB NOT NULL, 
	header BLOB NOT NULL, 
	signature BLOB NOT NULL, 
	body BLOB NOT NULL, 
	received_at REAL NOT NULL, 
	certificate BLOB, 
	PRIMARY KEY (job_id, sha)
)
 STRICT

;
CREATE TABLE replay_floors (
	iss TEXT NOT NULL, 
	valid_until REAL NOT NULL, 
	PRIMARY KEY (iss)
)
 WITHOUT ROWID,
 STRICT

;
CREATE TABLE results (
	assignment_id TEXT NOT NULL, 
	job_id TEXT NOT NULL, 
	idx INTEGER NOT NULL, 
	first_item INTEGER NOT NULL, 
	n_items INTEGER NOT NULL, 
	node_id TEXT NOT NULL, 
	sha TEXT NOT NULL, 
	size_bytes INTEGER NOT NULL, 
	body BLOB, 
	wall_s REAL NOT NULL, 
	cpu_s REAL NOT NULL, 
	peak_memory_bytes INTEGER, 
	fuel INTEGER, 
	stderr TEXT DEFAULT '' NOT NULL, 
	counted INTEGER DEFAULT 1 NOT NULL, 
	receipt TEXT, 
	PRIMARY KEY (job_id, first_item, assignment_id)
)
 STRICT

;
INSERT INTO "results" VALUES('01KAXXXXXXXXXXXXXXXXXXXXX1.0.1','01KAXXXXXXXXXXXXXXXXXXXXX1',0,0,60,'12D3KooWNode','753f5d07dca28b828839860b6b691eab72f41a9cc3d9cb176ef35355207494a0',4,X'31373730',0.01,0.01,NULL,NULL,'',1,NULL);
CREATE TABLE revoked_keys (
	kid TEXT NOT NULL, 
	revoked_at REAL NOT NULL, 
	reason TEXT NOT NULL, 
	issuer TEXT, 
	PRIMARY KEY (kid)
)
 WITHOUT ROWID,
 STRICT

;
CREATE TABLE seen (
	jti BLOB NOT NULL, 
	iss TEXT NOT NULL, 
	body_hash BLOB NOT NULL, 
	exp REAL NOT NULL, 
	valid_until REAL, 
	PRIMARY KEY (exp, jti)
)
 WITHOUT ROWID,
 STRICT

;
INSERT INTO "seen" VALUES(X'6A6A6A6A6A6A6A6A6A6A6A6A6A6A6A6A','12D3KooWGateway',X'6868686868686868686868686868686868686868686868686868686868686868',1764000900.0,NULL);
CREATE TABLE shards (
	job_id TEXT NOT NULL, 
	idx INTEGER NOT NULL, 
	state TEXT NOT NULL, 
	first_item INTEGER NOT NULL, 
	n_items INTEGER NOT NULL, 
	attempts INTEGER NOT NULL, 
	accepted_assignment TEXT, 
	PRIMARY KEY (job_id, idx)
)
 WITHOUT ROWID,
 STRICT

;
INSERT INTO "shards" VALUES('01KAXXXXXXXXXXXXXXXXXXXXX1',0,'done',0,60,1,'01KAXXXXXXXXXXXXXXXXXXXXX1.0.1');
INSERT INTO "shards" VALUES('01KAXXXXXXXXXXXXXXXXXXXXX2',0,'assigned',0,60,1,NULL);
CREATE TABLE tombstones (
	job_id TEXT NOT NULL, 
	pruned_at REAL NOT NULL, 
	rows_left INTEGER DEFAULT 0 NOT NULL, 
	events_left INTEGER DEFAULT 0 NOT NULL, 
	PRIMARY KEY (job_id)
)
 WITHOUT ROWID,
 STRICT

;
INSERT INTO "tombstones" VALUES('01KAOLD',1763000000.0,0,0);
CREATE TABLE uploads (
	owner TEXT NOT NULL, 
	sha TEXT NOT NULL, 
	size_bytes INTEGER NOT NULL, 
	expires_at REAL NOT NULL, 
	PRIMARY KEY (owner, sha)
)
 WITHOUT ROWID,
 STRICT

;
CREATE INDEX jobs_prunable ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_by_parts ON jobs (parts_sha) WHERE parts_sha IS NOT NULL;
CREATE INDEX jobs_unfinished ON jobs (id) WHERE finished_at IS NULL;
CREATE UNIQUE INDEX jobs_by_key ON jobs (idem_key) WHERE idem_key IS NOT NULL;
CREATE INDEX jobs_by_script ON jobs (script_sha) WHERE script_sha IS NOT NULL;
CREATE INDEX jobs_by_dataset ON jobs (dataset_sha);
CREATE INDEX jobs_read ON jobs (read_at) WHERE read_at IS NOT NULL;
CREATE INDEX jobs_by_result ON jobs (result_sha) WHERE result_inline IS NULL AND result_sha IS NOT NULL;
CREATE INDEX jobs_by_module ON jobs (module_sha);
CREATE INDEX tombstones_unswept ON tombstones (job_id) WHERE rows_left = 1;
CREATE INDEX tombstones_with_events ON tombstones (pruned_at) WHERE events_left = 1;
CREATE INDEX tombstones_age ON tombstones (pruned_at);
CREATE INDEX shards_open ON shards (job_id, idx) WHERE state IN ('queued', 'assigned');
CREATE INDEX shards_given_up ON shards (job_id, first_item) WHERE state IN ('skipped', 'dead', 'cancelled');
CREATE INDEX shards_retried ON shards (job_id, idx) WHERE attempts > 1 OR state = 'split';
CREATE INDEX results_by_blob ON results (sha) WHERE body IS NULL;
CREATE INDEX events_of_no_job ON events (seq) WHERE job_id IS NULL;
CREATE INDEX events_by_job ON events (job_id, seq) WHERE job_id IS NOT NULL;
CREATE INDEX jobs_given_up ON jobs (id) WHERE state IN ('failed', 'cancelled');
CREATE INDEX uploads_by_blob ON uploads (sha);
CREATE INDEX automation_runs_open ON automation_runs (next_at) WHERE state = 'open';
COMMIT;

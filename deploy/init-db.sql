-- Roles and databases of OwlClaw and its Hatchet engine. For psql, as a superuser or as a role with CREATEDB and CREATEROLE:
--
--   psql -h localhost -U postgres -f deploy/init-db.sql
--   psql -h localhost -U postgres -v owlclaw_password=... -v hatchet_password=... -f deploy/init-db.sql
--
-- Run it as often as you like: what is there and fits stays as it is, passwords too. It stops at the first real error.
-- The passwords are the roles' names unless they are given, by -v or as LITE_HATCHET_PASSWORD and LITE_OWLCLAW_PASSWORD:
-- good for a server that only this machine reaches, and for no other.

\set ON_ERROR_STOP on
\set QUIET on

SELECT :VERSION_NUM >= 140000 AS reads_environment \gset
\if :reads_environment
  \if :{?hatchet_password}
  \else
    \getenv hatchet_password LITE_HATCHET_PASSWORD
  \endif
  \if :{?owlclaw_password}
  \else
    \getenv owlclaw_password LITE_OWLCLAW_PASSWORD
  \endif
\endif
\if :{?hatchet_password}
\else
  \set hatchet_password hatchet
\endif
\if :{?owlclaw_password}
\else
  \set owlclaw_password owlclaw
\endif

-- Hatchet needs PostgreSQL 14.
DO $$
BEGIN
  IF current_setting('server_version_num')::int < 140000 THEN
    RAISE EXCEPTION 'PostgreSQL % is too old, Hatchet needs 14 or newer', current_setting('server_version');
  END IF;
END $$;

SELECT format('CREATE ROLE hatchet LOGIN PASSWORD %L', :'hatchet_password')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'hatchet') \gexec
SELECT format('CREATE ROLE owlclaw LOGIN PASSWORD %L', :'owlclaw_password')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'owlclaw') \gexec

-- Only a member of the owner may give it a database; a superuser is one anyway.
SELECT format('GRANT %I TO CURRENT_USER', wanted)
FROM unnest(ARRAY['hatchet', 'owlclaw']) AS wanted
WHERE NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
  AND NOT EXISTS (SELECT FROM pg_database WHERE datname = wanted) \gexec

-- From template0: what somebody put into template1, a btree_gist for one, does not come along.
SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING ''UTF8''%s', wanted, wanted,
  (SELECT CASE WHEN pg_encoding_to_char(encoding) <> 'UTF8' THEN ' LC_COLLATE ''C'' LC_CTYPE ''C''' ELSE '' END
   FROM pg_database WHERE datname = 'template0'))
FROM unnest(ARRAY['hatchet', 'owlclaw']) AS wanted
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = wanted) \gexec

-- A database of the same name that belongs to somebody else is not taken over.
DO $$
DECLARE
  other record;
BEGIN
  FOR other IN
    SELECT datname, pg_get_userbyid(datdba) AS owner FROM pg_database
    WHERE datname IN ('hatchet', 'owlclaw') AND pg_get_userbyid(datdba) <> datname
  LOOP
    RAISE EXCEPTION 'database % belongs to %, not to role %', other.datname, other.owner, other.datname
      USING HINT = format('ALTER DATABASE %I OWNER TO %I;', other.datname, other.datname);
  END LOOP;
END $$;

-- Hatchet takes UTC and nothing else. For these roles in these databases only: the server keeps its own timezone.
ALTER ROLE hatchet IN DATABASE hatchet SET timezone = 'UTC';
ALTER ROLE owlclaw IN DATABASE owlclaw SET timezone = 'UTC';

-- As the admin, since vector is no trusted extension. btree_gist is left out on purpose: Hatchet's own migration creates
-- it in its database, and fails where it is there already.
\connect owlclaw
SELECT format('CREATE EXTENSION %I', name)
FROM pg_available_extensions
WHERE name IN ('vector', 'pgcrypto') AND installed_version IS NULL \gexec
DO $$
DECLARE
  missing text;
BEGIN
  FOR missing IN
    SELECT wanted FROM unnest(ARRAY['vector', 'pgcrypto']) AS wanted
    WHERE NOT EXISTS (SELECT FROM pg_extension WHERE extname = wanted)
  LOOP
    RAISE WARNING 'this server has no extension %, so database owlclaw is without it', missing;
  END LOOP;
END $$;

\echo 'roles and databases hatchet and owlclaw are there'

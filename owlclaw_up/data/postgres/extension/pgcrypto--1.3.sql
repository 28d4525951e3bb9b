/*
 * pgcrypto 1.3 for the embedded PostgreSQL server: owlclaw-up's companion, see README.md.
 *
 * Names, signatures, volatility and errors are those of contrib's pgcrypto 1.3.
 * Relocatable: functions call each other only from SQL-standard bodies, which hold the callee itself, not its name.
 * PL/pgSQL bodies use nothing but pg_catalog.
 */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION pgcrypto" to load this file. \quit

--
-- Internals
--

-- FIPS 180-4, section 6.1. The server's core has no SQL function for SHA-1.
CREATE FUNCTION pgcrypto_companion_sha1(bytea) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
  mask CONSTANT bigint := 4294967295;
  message CONSTANT bytea := $1 || '\x80'::bytea
    || decode(repeat('00', (119 - length($1) % 64) % 64), 'hex')
    || int8send(length($1)::bigint * 8);
  h0 bigint := 1732584193;
  h1 bigint := 4023233417;
  h2 bigint := 2562383102;
  h3 bigint := 271733878;
  h4 bigint := 3285377520;
  a bigint;
  b bigint;
  c bigint;
  d bigint;
  e bigint;
  f bigint;
  k bigint;
  x bigint;
  w bigint[];
  p integer := 0;
BEGIN
  WHILE p < length(message) LOOP
    w := '{}';
    FOR t IN 1..16 LOOP
      w[t] := (get_byte(message, p)::bigint << 24) | (get_byte(message, p + 1) << 16)
        | (get_byte(message, p + 2) << 8) | get_byte(message, p + 3);
      p := p + 4;
    END LOOP;
    FOR t IN 17..80 LOOP
      x := w[t - 3] # w[t - 8] # w[t - 14] # w[t - 16];
      w[t] := ((x << 1) | (x >> 31)) & mask;
    END LOOP;
    a := h0;
    b := h1;
    c := h2;
    d := h3;
    e := h4;
    FOR t IN 1..80 LOOP
      IF t <= 20 THEN
        f := (b & c) | ((b # mask) & d);
        k := 1518500249;
      ELSIF t <= 40 THEN
        f := b # c # d;
        k := 1859775393;
      ELSIF t <= 60 THEN
        f := (b & c) | (b & d) | (c & d);
        k := 2400959708;
      ELSE
        f := b # c # d;
        k := 3395469782;
      END IF;
      x := (((a << 5) | (a >> 27)) + f + e + k + w[t]) & mask;
      e := d;
      d := c;
      c := ((b << 30) | (b >> 2)) & mask;
      b := a;
      a := x;
    END LOOP;
    h0 := (h0 + a) & mask;
    h1 := (h1 + b) & mask;
    h2 := (h2 + c) & mask;
    h3 := (h3 + d) & mask;
    h4 := (h4 + e) & mask;
  END LOOP;
  -- The low four of the eight bytes of each word.
  RETURN substring(int8send(h0) FROM 5) || substring(int8send(h1) FROM 5) || substring(int8send(h2) FROM 5)
    || substring(int8send(h3) FROM 5) || substring(int8send(h4) FROM 5);
END;
$body$;

-- RFC 2104: the key ($1), filled with zero bytes to the block size ($2), every byte XORed with $3.
CREATE FUNCTION pgcrypto_companion_pad(bytea, integer, integer) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
  padded bytea := $1 || decode(repeat('00', $2 - length($1)), 'hex');
BEGIN
  FOR i IN 0..$2 - 1 LOOP
    padded := set_byte(padded, i, get_byte(padded, i) # $3);
  END LOOP;
  RETURN padded;
END;
$body$;

CREATE FUNCTION pgcrypto_companion_no_hash(text) RETURNS bytea
LANGUAGE plpgsql VOLATILE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = 'invalid_parameter_value',
    MESSAGE = format('Cannot use "%s": No such hash algorithm', $1);
END;
$body$;

-- Raises the error of a function ($1) that is not offered; $2 only gives the type.
CREATE FUNCTION pgcrypto_companion_refuse(text, anyelement) RETURNS anyelement
LANGUAGE plpgsql VOLATILE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = 'feature_not_supported',
    MESSAGE = format(
      '%s() is not offered by this pgcrypto, owlclaw-up''s companion for the embedded PostgreSQL server', $1),
    DETAIL = 'The companion offers digest(), hmac(), gen_random_bytes() and gen_random_uuid().',
    HINT = 'Use a PostgreSQL server with contrib''s pgcrypto.';
END;
$body$;

--
-- Hashes
--

CREATE FUNCTION digest(bytea, text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE lower($2 COLLATE "C")
  WHEN 'md5' THEN decode(md5($1), 'hex')
  WHEN 'sha1' THEN pgcrypto_companion_sha1($1)
  WHEN 'sha224' THEN sha224($1)
  WHEN 'sha256' THEN sha256($1)
  WHEN 'sha384' THEN sha384($1)
  WHEN 'sha512' THEN sha512($1)
  ELSE pgcrypto_companion_no_hash(lower($2 COLLATE "C"))
END;

-- The original hashes the text's bytes in the encoding of the database.
CREATE FUNCTION digest(text, text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN digest(convert_to($1, getdatabaseencoding()), $2);

-- RFC 2104: data, key, hash. A key longer than a block is hashed first.
CREATE FUNCTION hmac(bytea, bytea, text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
  SELECT digest(
    pgcrypto_companion_pad(key.bytes, block.size, 92)
      || digest(pgcrypto_companion_pad(key.bytes, block.size, 54) || $1, $3),
    $3)
  FROM (SELECT CASE WHEN lower($3 COLLATE "C") IN ('sha384', 'sha512') THEN 128 ELSE 64 END) AS block (size),
    LATERAL (SELECT CASE WHEN length($2) > block.size THEN digest($2, $3) ELSE $2 END) AS key (bytes);
END;

CREATE FUNCTION hmac(text, text, text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN hmac(convert_to($1, getdatabaseencoding()), convert_to($2, getdatabaseencoding()), $3);

--
-- Random data
--

-- gen_random_uuid() takes its bits from the server's strong random source. Bytes 7 and 9 of a version 4 UUID hold the
-- fixed bits (RFC 9562, section 5.4) and are left out, so each UUID gives 14 random bytes.
CREATE FUNCTION gen_random_bytes(int4) RETURNS bytea
LANGUAGE plpgsql VOLATILE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
  result bytea := '';
  uuid bytea;
BEGIN
  IF $1 < 1 OR $1 > 1024 THEN
    RAISE EXCEPTION USING ERRCODE = 'external_routine_invocation_exception', MESSAGE = 'Length not in range';
  END IF;
  WHILE length(result) < $1 LOOP
    uuid := uuid_send(gen_random_uuid());
    result := result || substring(uuid FROM 1 FOR 6) || substring(uuid FROM 8 FOR 1) || substring(uuid FROM 10);
  END LOOP;
  RETURN substring(result FROM 1 FOR $1);
END;
$body$;

-- An unqualified call finds the core's function first; this one serves calls qualified with the extension's schema.
CREATE FUNCTION gen_random_uuid() RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN pg_catalog.gen_random_uuid();

--
-- Not offered
--

CREATE FUNCTION crypt(text, text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('crypt', NULL::text);

CREATE FUNCTION gen_salt(text) RETURNS text
LANGUAGE sql VOLATILE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('gen_salt', NULL::text);

CREATE FUNCTION gen_salt(text, int4) RETURNS text
LANGUAGE sql VOLATILE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('gen_salt', NULL::text);

CREATE FUNCTION encrypt(bytea, bytea, text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('encrypt', NULL::bytea);

CREATE FUNCTION decrypt(bytea, bytea, text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('decrypt', NULL::bytea);

CREATE FUNCTION encrypt_iv(bytea, bytea, bytea, text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('encrypt_iv', NULL::bytea);

CREATE FUNCTION decrypt_iv(bytea, bytea, bytea, text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('decrypt_iv', NULL::bytea);

CREATE FUNCTION pgp_sym_encrypt(text, text) RETURNS bytea
LANGUAGE sql VOLATILE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('pgp_sym_encrypt', NULL::bytea);

CREATE FUNCTION pgp_sym_encrypt(text, text, text) RETURNS bytea
LANGUAGE sql VOLATILE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('pgp_sym_encrypt', NULL::bytea);

CREATE FUNCTION pgp_sym_encrypt_bytea(bytea, text) RETURNS bytea
LANGUAGE sql VOLATILE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('pgp_sym_encrypt_bytea', NULL::bytea);

CREATE FUNCTION pgp_sym_encrypt_bytea(bytea, text, text) RETURNS bytea
LANGUAGE sql VOLATILE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('pgp_sym_encrypt_bytea', NULL::bytea);

CREATE FUNCTION pgp_sym_decrypt(bytea, text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('pgp_sym_decrypt', NULL::text);

CREATE FUNCTION pgp_sym_decrypt(bytea, text, text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('pgp_sym_decrypt', NULL::text);

CREATE FUNCTION pgp_sym_decrypt_bytea(bytea, text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('pgp_sym_decrypt_bytea', NULL::bytea);

CREATE FUNCTION pgp_sym_decrypt_bytea(bytea, text, text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('pgp_sym_decrypt_bytea', NULL::bytea);

CREATE FUNCTION pgp_pub_encrypt(text, bytea) RETURNS bytea
LANGUAGE sql VOLATILE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('pgp_pub_encrypt', NULL::bytea);

CREATE FUNCTION pgp_pub_encrypt(text, bytea, text) RETURNS bytea
LANGUAGE sql VOLATILE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('pgp_pub_encrypt', NULL::bytea);

CREATE FUNCTION pgp_pub_encrypt_bytea(bytea, bytea) RETURNS bytea
LANGUAGE sql VOLATILE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('pgp_pub_encrypt_bytea', NULL::bytea);

CREATE FUNCTION pgp_pub_encrypt_bytea(bytea, bytea, text) RETURNS bytea
LANGUAGE sql VOLATILE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('pgp_pub_encrypt_bytea', NULL::bytea);

CREATE FUNCTION pgp_pub_decrypt(bytea, bytea) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('pgp_pub_decrypt', NULL::text);

CREATE FUNCTION pgp_pub_decrypt(bytea, bytea, text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('pgp_pub_decrypt', NULL::text);

CREATE FUNCTION pgp_pub_decrypt(bytea, bytea, text, text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('pgp_pub_decrypt', NULL::text);

CREATE FUNCTION pgp_pub_decrypt_bytea(bytea, bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('pgp_pub_decrypt_bytea', NULL::bytea);

CREATE FUNCTION pgp_pub_decrypt_bytea(bytea, bytea, text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('pgp_pub_decrypt_bytea', NULL::bytea);

CREATE FUNCTION pgp_pub_decrypt_bytea(bytea, bytea, text, text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('pgp_pub_decrypt_bytea', NULL::bytea);

CREATE FUNCTION pgp_key_id(bytea) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('pgp_key_id', NULL::text);

CREATE FUNCTION armor(bytea) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('armor', NULL::text);

CREATE FUNCTION armor(bytea, text[], text[]) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('armor', NULL::text);

CREATE FUNCTION dearmor(text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN pgcrypto_companion_refuse('dearmor', NULL::bytea);

CREATE FUNCTION pgp_armor_headers(text, OUT key text, OUT value text) RETURNS SETOF record
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
  SELECT pgcrypto_companion_refuse('pgp_armor_headers', NULL::text), NULL::text;
END;

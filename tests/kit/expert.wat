;; An expert in the sandbox: what it is asked is what it does, by the first byte of its input.
;;   f  for ever        t  a trap        m  all the memory there is        b  a bad pointer
;;   ?  exit status 2 and a reason       o  output without end             i  an import that is not there
;; anything else comes back as it is, in pieces of at most 4 bytes.
(module
  (type $rw (func (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (type $rw)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (type $rw)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 64) "the text is too long for this module")

  (func $say (param $to i32) (param $at i32) (param $length i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $length))
    (drop (call $write (local.get $to) (i32.const 0) (i32.const 1) (i32.const 8))))

  (func $grow (loop $more
    (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
    (br $more)))

  (func (export "_start") (local $first i32) (local $length i32) (local $at i32)
    ;; all of the input, up to 64 KiB, to 65536
    (i32.store (i32.const 0) (i32.const 65536))
    (i32.store (i32.const 4) (i32.const 65536))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (local.set $length (i32.load (i32.const 8)))
    (local.set $first (i32.load8_u (i32.const 65536)))
    (if (i32.eq (local.get $first) (i32.const 102)) (then (loop $ever (br $ever))))
    (if (i32.eq (local.get $first) (i32.const 116)) (then unreachable))
    (if (i32.eq (local.get $first) (i32.const 109)) (then (call $grow)))
    (if (i32.eq (local.get $first) (i32.const 98)) (then
      (call $exit (call $write (i32.const 1) (i32.const -8) (i32.const 1) (i32.const 8)))))
    (if (i32.eq (local.get $first) (i32.const 63)) (then
      (call $say (i32.const 2) (i32.const 64) (i32.const 36))
      (call $exit (i32.const 2))
      (loop $on (br $on))))
    (if (i32.eq (local.get $first) (i32.const 111)) (then
      (loop $out (call $say (i32.const 1) (i32.const 65536) (i32.const 65536)) (br $out))))
    (if (i32.eq (local.get $first) (i32.const 105)) (then
      (drop (call $open (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                        (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0)))))
    (local.set $at (i32.const 65536))
    (block $done (loop $next
      (br_if $done (i32.eqz (local.get $length)))
      (call $say (i32.const 1) (local.get $at)
        (select (i32.const 4) (local.get $length) (i32.gt_u (local.get $length) (i32.const 4))))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (local.set $length (i32.sub (local.get $length)
        (select (i32.const 4) (local.get $length) (i32.gt_u (local.get $length) (i32.const 4)))))
      (br $next)))))
